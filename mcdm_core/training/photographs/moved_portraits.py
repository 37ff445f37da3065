"""Photographs with other mouths and lids: what a still can teach about motion (ours, beside the paper).

Footage of many people is rare, portraits are not. A thin-plate-spline warp moves the lips and lids of one, and the
landmarks with them. The warped picture only ever *leads* to the true one. It is the portrait that a network starts
from, or a frame whose motion is read. What a network has to paint is the photograph as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...face.landmarks import BLINK_VALUES, LIPS, VALUE_NAMES
from ...face.reference_warp import tps_flow, warp

_GRID = 96
_FACE = slice(0, 64)  # of all 68 points the flow would keep the lips apart
_UPPER_GAP, _LOWER_GAP = [13, 14, 15], [19, 18, 17]
_UPPER_OUTLINE, _LOWER_OUTLINE = [1, 2, 3, 4, 5], [11, 10, 9, 8, 7]
_NEAREST_GAP = [0, 0, 1, 2, 2]
"""For each point of an outline, the place of the gap that it follows."""
_EYES = (20, 28)
_LIP_OPENING = VALUE_NAMES.index("lip_opening")


@dataclass(frozen=True)
class FaceChange:
    """How faces are to move; each field ``[n]``.

    Attributes:
        gap: factor of the lips' gap (0 shuts them); width: factor of the mouth's width.
        lids: factor of the gap between the lids.
    """

    gap: Tensor
    width: Tensor
    lids: Tensor

    @classmethod
    def draw(cls, number: int, generator: torch.Generator | None = None) -> FaceChange:
        """Mouths from nearly shut to wide, a tenth narrower or wider; lids lowered in three faces of five."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(number, generator=generator) * (high - low) + low

        lids = torch.where(uniform(0, 1) < 0.6, uniform(0.25, 1.1), torch.ones(number))
        return cls(uniform(0.3, 1.4), 1 + 0.08 * torch.randn(number, generator=generator), lids)


def move_landmarks(landmarks: Tensor, change: FaceChange) -> Tensor:
    """Landmarks ``[n, 68, 2]`` after a change of lips and lids.

    >>> points = torch.rand(2, 68, 2)
    >>> same = FaceChange(torch.ones(2), torch.ones(2), torch.ones(2))
    >>> torch.allclose(move_landmarks(points, same), points, atol=1e-6)
    True
    """
    moved = landmarks.clone()
    gap, width, lids = (x.to(landmarks)[:, None, None] for x in (change.gap, change.width, change.lids))
    centre = landmarks[:, LIPS].mean(1, keepdim=True)
    moved[:, LIPS, :1] = centre[..., :1] + (landmarks[:, LIPS, :1] - centre[..., :1]) * width
    seam = 0.55 * moved[:, _UPPER_GAP] + 0.45 * moved[:, _LOWER_GAP]
    for inner, outline in ((_UPPER_GAP, _UPPER_OUTLINE), (_LOWER_GAP, _LOWER_OUTLINE)):
        step = (moved[:, inner] - seam) * (gap - 1)
        moved[:, inner] = moved[:, inner] + step
        share = moved.new_tensor([0.5, 1.0, 1.0, 1.0, 0.5])[:, None]
        moved[:, outline] = moved[:, outline] + step[:, _NEAREST_GAP] * share
    for first in _EYES:
        upper, lower = [first + 1, first + 2, first + 3], [first + 7, first + 6, first + 5]
        line = 0.25 * landmarks[:, upper] + 0.75 * landmarks[:, lower]
        for lid in (upper, lower):
            moved[:, lid] = line + (landmarks[:, lid] - line) * lids
    return moved


def move_values(values: Tensor, change: FaceChange) -> Tensor:
    """Facial values ``[n, 16]`` after a change: the lips' gap by its factor, what is open of the lids by theirs."""
    moved = values.clone()
    moved[:, _LIP_OPENING] = values[:, _LIP_OPENING] * change.gap.to(values)
    moved[:, BLINK_VALUES] = (1 - (1 - values[:, BLINK_VALUES]) * change.lids.to(values)[:, None]).clamp(0, 1)
    return moved


def move_portraits(pictures: Tensor, landmarks: Tensor, change: FaceChange) -> tuple[Tensor, Tensor]:
    """Portraits with other lips and lids.

    Args:
        pictures: ``[n, 3, h, w]``; landmarks: ``[n, 68, 2]`` in [0, 1].

    Returns:
        Pictures and landmarks of the same shapes.
    """
    moved = move_landmarks(landmarks, change)
    return warp(pictures, tps_flow(moved[:, _FACE], landmarks[:, _FACE], size=_GRID)), moved


def close_lips(pictures: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Portraits with their lips warped shut: the same people without their teeth.

    Args:
        pictures: ``[n, 3, h, w]`` in [-1, 1]; landmarks: ``[n, 68, 2]``.

    Returns:
        Pictures and landmarks of the same shapes.
    """
    closed = landmarks.clone()
    gap = landmarks[:, 18] - landmarks[:, 14]
    seam = 0.55 * landmarks[:, _UPPER_GAP] + 0.45 * landmarks[:, _LOWER_GAP]
    closed[:, _UPPER_GAP] = seam
    closed[:, _LOWER_GAP] = seam
    for points, shares in (((1, 2, 3, 4, 5), _UPPER_SHARES), ((7, 8, 9, 10, 11), _LOWER_SHARES)):
        for point, share in zip(points, shares, strict=True):
            closed[:, point] += share * gap
    return warp(pictures, tps_flow(closed[:, _FACE], landmarks[:, _FACE], size=_GRID)), closed


_UPPER_SHARES = (0.08, 0.18, 0.2, 0.18, 0.08)
_LOWER_SHARES = (-0.25, -0.5, -0.55, -0.5, -0.25)
"""How much of the gap the outline of the upper lip comes down, and that of the lower lip up."""
