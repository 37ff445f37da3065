"""Pasting back, and the portrait's own detail."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.face.compositing.crop import (
    add_change,
    feather_mask,
    full_resolution_crop,
    head_mask,
    move_surroundings,
    paste_back,
    transfer_detail,
)
from mcdm_core.face.crops import crop_face

from ..motion_fixtures import face_landmarks


def test_a_crop_may_reach_outside_the_picture() -> None:
    image = torch.full((3, 60, 60), 0.3)
    crop, transform = crop_face(image, (0, 0, 50, 50), 64)
    assert transform.left < 0 and torch.allclose(crop, torch.tensor(0.3), atol=1e-5)
    pasted = paste_back(torch.ones(2, 3, 64, 64), image, transform)
    assert pasted.shape == (2, 3, 60, 60) and pasted[0, 0, 25, 25] == 1


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


def test_a_face_at_rest_leaves_its_surroundings_alone() -> None:
    large, still = torch.rand(3, 90, 90), face_landmarks()[0]
    assert torch.allclose(move_surroundings(large, still[None], still)[0], large, atol=1e-4)


def test_surroundings_follow_the_face_and_end_at_the_border() -> None:
    y, x = torch.meshgrid(torch.arange(120) / 120, torch.arange(120) / 120, indexing="ij")
    large = torch.stack([x, y, x])
    still = face_landmarks()[0]
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


def test_two_changes_of_one_picture_stand_side_by_side() -> None:
    portrait = torch.rand(3, 40, 60)
    background, finished = portrait[None].clone(), portrait[None].clone()
    background[..., :20] = 0.2
    finished[..., 40:] = 0.9
    both = add_change(background, finished, portrait)
    assert torch.equal(both[..., :40], background[..., :40])
    assert torch.allclose(both[..., 40:], torch.full((), 0.9), atol=1e-6)
