"""Photographs with other mouths and lids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.config import TINY
from mcdm_core.data.real.stills import write_still_shards
from mcdm_core.face.landmarks import (
    BLINK_VALUES,
    EYE_PICTURE_LEFT,
    EYE_PICTURE_RIGHT,
    LIP_CORNERS,
    lid_opening,
    lip_opening,
)
from mcdm_core.media.portrait import load_portrait
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import FOLDER
from mcdm_core.training.codec.data import MOVED, load_codec_frames
from mcdm_core.training.parts.batches import BatchDrawer
from mcdm_core.training.parts.rows import STILL_BLINK, STILL_MOVED, STILL_SHUT, FrameRows
from mcdm_core.training.photographs.moved_portraits import (
    FaceChange,
    close_lips,
    move_landmarks,
    move_portraits,
    move_values,
)
from mcdm_core.training.photographs.shut_lids import shut_lids

ASTRONAUT = FOLDER / "astronaut.jpg"


@pytest.fixture(scope="module")
def tiny() -> MCDMPipeline:
    return MCDMPipeline.from_preset("tiny")


@pytest.fixture(scope="module")
def astronaut(tiny: MCDMPipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """The astronaut's crop and landmarks."""
    encoded = tiny.encode_reference(load_portrait(ASTRONAUT))
    return encoded.crop[None] * 2 - 1, encoded.landmarks[None]


def change(gap: float, width: float = 1.0, lids: float = 1.0) -> FaceChange:
    return FaceChange(*(torch.tensor([x]) for x in (gap, width, lids)))


def test_gaps_and_width_change_by_their_factors(astronaut: tuple[torch.Tensor, torch.Tensor]) -> None:
    points = astronaut[1]
    moved = move_landmarks(points, change(0.5, 1.2, 0.3))
    middle = [14, 18]
    corners = list(LIP_CORNERS)
    assert torch.allclose(moved[:, middle, 1].diff(dim=1), points[:, middle, 1].diff(dim=1) * 0.5, atol=1e-5)
    assert torch.allclose(moved[:, corners, 0].diff(dim=1), points[:, corners, 0].diff(dim=1) * 1.2, atol=1e-5)
    assert float(lid_opening(moved)) == pytest.approx(0.3 * float(lid_opening(points)), rel=0.05)
    assert torch.equal(moved[:, 36:], points[:, 36:])


def test_the_picture_follows_the_landmarks(tiny: MCDMPipeline, astronaut: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The face network, which knows nothing of the warp, reads the lids and lips where they were moved to."""
    crop, points = astronaut
    moved, there = move_portraits(crop, points, change(0.4, 1.0, 0.3))
    small = torch.nn.functional.interpolate(moved, size=(128, 128), mode="bilinear", antialias=True)
    read = tiny.model.face_network(small).landmarks
    assert float(lid_opening(read)) < 0.7 * float(lid_opening(points))
    before = (read - points)[:, 13:16].norm(dim=-1).mean() + (read - points)[:, 17:20].norm(dim=-1).mean()
    after = (read - there)[:, 13:16].norm(dim=-1).mean() + (read - there)[:, 17:20].norm(dim=-1).mean()
    assert float(after) < float(before)
    assert float((moved - crop)[..., :16, :16].abs().mean()) < 0.05
    shut, closed = close_lips(crop, points)
    assert float(lip_opening(closed)) < 0.02 < float((shut - crop).abs().max())


def test_eyes_painted_shut_have_lashes_and_leave_the_brows(astronaut: tuple[torch.Tensor, torch.Tensor]) -> None:
    crop, points = astronaut
    shut, lids = shut_lids(crop[0], points[0], np.random.default_rng(0))
    assert float(lid_opening(lids[None])) < 0.01
    size, light = crop.shape[-1], shut.mean(0)
    for eye in (EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT):
        corner, inner = (points[0, eye.start + k] for k in (0, 4))
        x, y = (lids[eye.start + 2] * size).long().tolist()
        reach = int(float((inner - corner).norm()) * size * 0.15)
        # The line is the darkest there is above and below it.
        column = light[y - reach : y + reach + 1, x]
        assert abs(int(column.argmin()) - reach) <= 2
        assert float(column[[0, -1]].min() - column.min()) > 0.1
    brows = points[0, 36:46] * size
    top = int(brows[:, 1].max())
    assert float((shut - crop[0])[:, :top].abs().mean()) < 0.01
    assert torch.equal(lids[36:], points[0, 36:])


def test_a_half_shut_lid_covers_the_iris_and_does_not_squeeze_it(
    astronaut: tuple[torch.Tensor, torch.Tensor],
) -> None:
    crop, points = astronaut
    before, size = float(lid_opening(points[:1])), crop.shape[-1]
    half, lids = shut_lids(crop[0], points[0], np.random.default_rng(0), gap=0.5)
    assert float(lid_opening(lids[None])) == pytest.approx(before / 2, rel=0.1)
    for eye in (EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT):
        upper, line, lower = (
            float(p[k, 1]) for p, k in ((points[0], eye.start + 2), (lids, eye.start + 2), (points[0], eye.start + 6))
        )
        x = int(points[0, eye.start + 2, 0] * size)
        change = (half - crop[0]).abs().mean(0)[:, x]
        covered = change[round(upper * size) : round(line * size) + 1]
        seen = change[round((line + lower) / 2 * size) + 1 : round(lower * size) + 1]
        assert float(covered.mean()) > 3 * float(seen.mean())
    assert torch.equal(lids[EYE_PICTURE_LEFT][5:8], points[0, EYE_PICTURE_LEFT][5:8])


def test_values_follow() -> None:
    values = torch.zeros(1, 16)
    values[:, 0] = 0.5
    moved = move_values(values, change(0.4, 1.0, 0.25))
    assert float(moved[0, 0]) == pytest.approx(0.2)
    assert moved[0, BLINK_VALUES].tolist() == pytest.approx([0.75, 0.75])


def test_stills_teach_the_codec_and_the_painter_other_faces(tiny: MCDMPipeline, tmp_path: Path) -> None:
    write_still_shards(tiny.model.face_network, [ASTRONAUT], tmp_path, "train", frames=1, size=192)
    data = load_codec_frames([tmp_path])
    (first, last), *_ = data.spans
    assert last - first == 1 + MOVED
    assert float(lid_opening(data.landmarks).std()) > 0.005 and float(data.values[:, BLINK_VALUES].std()) > 0.05
    rows = FrameRows([tmp_path], tiny.model.motion_codec, TINY.image_size)
    drawn = BatchDrawer(rows, 4, [1.0]).draw(64)
    kinds = set(drawn.reference.tolist())
    assert {STILL_SHUT, STILL_MOVED} <= kinds
    # What is to be painted is the photograph, or its shut twin, never a warped guess.
    assert set(drawn.target.flatten().tolist()) <= {0, STILL_SHUT, STILL_BLINK}
    assert STILL_BLINK in drawn.target and not (drawn.reference == STILL_BLINK).any()


def test_the_perceptual_distance_tells_blur_from_equal_and_only_in_the_region(tmp_path: Path) -> None:
    from mcdm_core.errors import WeightsError
    from mcdm_core.training.perceptual import PerceptualDistance

    torch.manual_seed(0)
    save_file(PerceptualDistance().state_dict(), tmp_path / "network.safetensors")
    distance = PerceptualDistance.from_file(tmp_path / "network.safetensors")
    true = torch.rand(2, 3, 64, 64) * 2 - 1
    made = true.clone()
    made[..., :32, :] = torch.nn.functional.avg_pool2d(true, 5, 1, 2)[..., :32, :]
    made.requires_grad_(True)
    top = torch.zeros(2, 1, 64, 64)
    top[..., :24, :] = 1
    inside, outside = distance(made, true, top), distance(made, true, top.flip(-2))
    inside.backward()
    assert made.grad is not None and float(made.grad[..., :24, :].abs().sum()) > 0
    assert float(inside.detach()) > 3 * float(outside.detach())
    assert float(distance(true, true, top)) == 0
    assert not distance.train().training
    save_file({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="EfficientNet-lite0"):
        PerceptualDistance.from_file(tmp_path / "other.safetensors")
