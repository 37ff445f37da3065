"""Frames composed in bytes are those composed in torch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mcdm_core.face.compositing.crop import SURROUNDINGS, feather_mask, full_resolution_crop, paste_back
from mcdm_core.face.compositing.in_bytes import MovingPicture, as_tensor, picture_bytes
from mcdm_core.face.compositing.on_device import MovingTensor
from mcdm_core.face.compositing.parts import lay_parts, move_head, resting_edge
from mcdm_core.face.crops import CropTransform, grown
from mcdm_core.face.part_places import part_places

from ..motion_fixtures import face_landmarks

pytest.importorskip("cv2")
PART = 48


def smooth(height: int, width: int, seed: int) -> torch.Tensor:
    """A picture [3, h, w] in [0, 1] without detail finer than some pixels."""
    coarse = torch.rand(1, 3, max(4, height // 8), max(4, width // 8), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-12).log10())


def moved_face(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Landmarks [68, 2] of a portrait and [1, 68, 2] of a head that has turned, come nearer and shifted."""
    still = torch.as_tensor(face_landmarks(), dtype=torch.float32).reshape(-1, 68, 2)[0]
    turn = torch.tensor([[0.995, -0.0998], [0.0998, 0.995]])
    return still, (1.05 * (still - 0.5) @ turn.T + 0.5 + shift)[None]


@pytest.mark.parametrize(("left", "top"), [(60.0, 50.0), (-40.0, 90.0), (150.0, -30.0)])
@pytest.mark.parametrize(("shift", "size"), [(0.02, 1), (-0.1, 1), (0.02, 3)])
def test_as_in_torch(left: float, top: float, shift: float, size: int) -> None:
    height, width, side = 240 * size, 300 * size, 161 * size
    portrait = smooth(height, width, 0)
    transform = CropTransform(left * size, top * size, float(side), width, height)
    still, now = moved_face(shift)
    places = part_places(still, now, PART)
    places = dataclasses.replace(places, shown=places.regions)  # the eyes, which rest, as well
    painted = (torch.stack([smooth(PART, PART, 1), smooth(PART, PART, 2)]) * 255).round().byte()
    outer = grown(transform, SURROUNDINGS)
    extent, large = outer.side / transform.side, full_resolution_crop(portrait, outer)
    head = move_head(large, places.flow[0], extent)
    laid = lay_parts(head, places.squares[0], painted.float() / 255, places.shown[0], extent)[None].clamp(0, 1)
    wanted = paste_back(laid, portrait, outer, feather_mask(large.shape[-1], 0.02))

    squares = (
        (round(left * size), round(top * size), side),
        (round(outer.left), round(outer.top), round(outer.side)),
    )
    picture = MovingPicture(picture_bytes(portrait), *squares)
    frame = picture.compose(resting_edge(places.flow[0]), painted, places, 0)
    found = as_tensor(frame).float() / 255
    assert found.shape == wanted.shape and decibels(found, wanted) > 45
    assert decibels(found, portrait[None]) < 30
    # What a GPU does, which knows nothing of windows.
    moving = MovingTensor(portrait, *squares)
    on_device = moving.compose(resting_edge(places.flow)[0], painted, places, 0)
    assert decibels(on_device, found[0]) > 45 and decibels(on_device, wanted[0]) > 45
    assert decibels(moving.compose(torch.zeros_like(places.flow[0]), painted, places, 0), on_device) < 45


def test_at_rest_only_the_regions_change() -> None:
    portrait = smooth(200, 200, 3)
    still = moved_face(0.0)[0]
    places = part_places(still, still[None], PART)
    pixels = picture_bytes(portrait)
    picture = MovingPicture(pixels, (50, 50, 100), (25, 25, 150))
    frame = picture.compose(places.flow[0], torch.zeros(2, 3, PART, PART, dtype=torch.uint8), places, 0)
    changed = np.abs(frame.astype(int) - pixels).max(-1) > 1
    assert 0.01 < changed.mean() < 0.2 and frame[changed].mean() < 0.7 * pixels[changed].mean()
    assert np.array_equal(frame[:40], pixels[:40]) and picture.pixels is pixels
