"""Reading of portraits, cropping and pasting back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcdm_core.errors import FaceTooSmallError, MediaError
from mcdm_core.face.compositing import (
    feather_mask,
    full_resolution_crop,
    head_mask,
    move_surroundings,
    paste_back,
    transfer_detail,
)
from mcdm_core.face.crops import crop_face, grown
from mcdm_core.media.portrait import limit_size, load_portrait


def gradient(height: int = 60, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(gradient())
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    picture.save(tmp_path / "a.png", exif=exif)
    image = load_portrait(tmp_path / "a.png")
    expected = torch.from_numpy(np.rot90(gradient(), -1).copy()).permute(2, 0, 1) / 255
    assert image.shape == (3, 80, 60) and torch.allclose(image, expected)


def test_transparency_lies_over_grey(tmp_path: Path) -> None:
    pixels = np.dstack([gradient(), np.full((60, 80), 255, np.uint8)])
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    image = load_portrait(tmp_path / "a.png")
    assert torch.allclose(image[:, :10], torch.tensor(0.5))
    assert torch.allclose(image[:, 20], torch.from_numpy(gradient()[20]).T / 255)


def test_grey_sixteen_bit_and_palette(tmp_path: Path) -> None:
    Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(gradient()[..., 0]).save(tmp_path / "grey.png")
    deep, grey = load_portrait(tmp_path / "deep.png"), load_portrait(tmp_path / "grey.png")
    assert deep.shape == grey.shape == (3, 60, 80)
    assert torch.allclose(deep, grey, atol=1e-4)
    Image.fromarray(gradient()).convert("P").save(tmp_path / "palette.gif")
    assert load_portrait(tmp_path / "palette.gif").shape == (3, 60, 80)


def test_broken_and_missing_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no picture"):
        load_portrait(tmp_path / "missing.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(MediaError, match="broken.png"):
        load_portrait(tmp_path / "broken.png")


def test_the_face_fills_its_part_of_the_crop() -> None:
    image = torch.zeros(3, 400, 300)
    image[:, 100:220, 90:210] = 1
    crop, transform = crop_face(image, (90, 100, 210, 220), 100)
    assert transform.side == 200 and crop.shape == (3, 100, 100)
    assert crop[0, 50].gt(0.5).sum().item() == pytest.approx(60, abs=1)
    points = torch.tensor([[0.2, 0.7], [0.5, 0.5]])
    assert torch.allclose(transform.to_crop(transform.to_image(points)), points, atol=1e-6)
    assert torch.allclose(transform.to_image(points)[1], torch.tensor([150.0, 160.0]))


def test_a_crop_may_reach_outside_the_picture() -> None:
    image = torch.full((3, 60, 60), 0.3)
    crop, transform = crop_face(image, (0, 0, 50, 50), 64)
    assert transform.left < 0 and torch.allclose(crop, torch.tensor(0.3), atol=1e-5)
    pasted = paste_back(torch.ones(2, 3, 64, 64), image, transform)
    assert pasted.shape == (2, 3, 60, 60) and pasted[0, 0, 25, 25] == 1


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ((5, 5, 5, 50), MediaError),
        ((500, 0, 600, 90), MediaError),
        ((0, 0, 9, 9), FaceTooSmallError),
        ((1, 2), MediaError),
    ],
)
def test_unusable_boxes_are_named(box: tuple[float, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        crop_face(torch.rand(3, 100, 100), box, 64)


def test_pasting_the_own_crop_back_changes_nothing() -> None:
    image = torch.rand(3, 150, 120)
    _, transform = crop_face(image, (30, 40, 90, 100), 64)
    large = full_resolution_crop(image, transform)
    assert torch.allclose(paste_back(large[None], image, transform)[0], image, atol=1e-6)


def test_outside_the_mask_the_portrait_stays() -> None:
    image = torch.rand(3, 150, 120)
    _, transform = crop_face(image, (30, 40, 90, 100), 64)
    pasted = paste_back(torch.zeros(1, 3, 64, 64), image, transform)[0]
    assert torch.equal(pasted[:, :15], image[:, :15])
    assert (pasted[:, 70, 60] == 0).all()
    # The edge of the crop is seamless: the mask is nearly zero there.
    assert feather_mask(64)[0, 0].max() < 0.05 and feather_mask(64).max() == 1


def test_the_head_mask_follows_the_head() -> None:
    still = torch.rand(68, 2) * 0.2 + 0.4
    moved = still[None] + torch.tensor([[[0.2, 0.0]]])
    here, there = head_mask(still[None], still, 64), head_mask(moved, still, 64)
    assert there.sum() > here.sum() and (there >= here - 1e-6).all()
    assert there.min() == 0 and there.max() == 1


def test_limit_size_only_shrinks() -> None:
    assert limit_size(torch.rand(3, 50, 100), 64).shape == (3, 32, 64)
    assert limit_size(torch.rand(3, 50, 40), 64).shape == (3, 50, 40)


def test_a_face_at_rest_leaves_its_surroundings_alone() -> None:
    large, still = torch.rand(3, 90, 90), torch.rand(68, 2)
    assert torch.allclose(move_surroundings(large, still[None], still)[0], large, atol=1e-4)


def test_surroundings_follow_the_face_and_end_at_the_border() -> None:
    y, x = torch.meshgrid(torch.arange(120) / 120, torch.arange(120) / 120, indexing="ij")
    large = torch.stack([x, y, x])
    still = torch.rand(68, 2) * 0.6 + 0.2
    moved = move_surroundings(large, still[None] + torch.tensor([0.06, 0.0]), still)[0]
    # A shift of 0.06 crop widths is 0.04 of the larger square.
    assert (large - moved)[0, 55:65, 55:65].mean().item() == pytest.approx(0.04, abs=0.01)
    assert torch.allclose(moved[:, :, 0], large[:, :, 0], atol=5e-3)


def test_no_change_keeps_the_detail_and_grain_is_left_out() -> None:
    moved, mask, warped = torch.rand(2, 3, 96, 96), torch.ones(1, 96, 96), torch.rand(2, 3, 32, 32)
    assert torch.allclose(transfer_detail(moved, warped, warped, mask), moved)
    grain = 0.01 * torch.randn(2, 3, 32, 32)
    assert (transfer_detail(moved, warped + grain, warped, mask) - moved).abs().mean() < 0.004
    grey, bright = torch.full((1, 3, 96, 96), 0.5), torch.full((1, 3, 32, 32), 0.6)
    dark = transfer_detail(grey, bright - 0.3, bright, mask)
    assert dark.mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.allclose(transfer_detail(grey, bright - 0.3, bright, mask * 0), grey)


def test_a_small_change_is_added_and_a_large_one_is_shown_as_the_frame_has_it() -> None:
    detail, flat = torch.rand(1, 3, 96, 96) * 0.2 + 0.4, torch.full((1, 3, 32, 32), 0.5)
    mask = torch.ones(1, 96, 96)
    slight = transfer_detail(detail, flat + 0.018, flat, mask)
    assert torch.allclose(slight, detail + 0.018, atol=1e-4)
    # An eye that closes: light and dark next to each other, which is skin now.
    eye = flat.clone()
    eye[..., 12:20, 8:24] += 0.2 * (-1.0) ** torch.arange(16)
    closed = transfer_detail(detail, flat, eye, mask)
    assert torch.allclose(closed[..., 42:54, 30:66], torch.full((1, 3, 12, 36), 0.5), atol=1e-4)
    assert torch.allclose(closed[..., :24, :], detail[..., :24, :], atol=1e-4)


def test_a_grown_crop_is_concentric() -> None:
    _, transform = crop_face(torch.rand(3, 150, 120), (30, 40, 90, 100), 64)
    outer = grown(transform, 1.5)
    assert outer.left + outer.side / 2 == transform.left + transform.side / 2
    assert outer.side == pytest.approx(1.5 * transform.side, abs=1)
