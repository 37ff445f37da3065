"""How much a face moves: speed and range of its head, blinks a minute, and what a seed changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..face.landmarks import BLINK_VALUES
from ..models.motion_codec import STABLE

CROP = 128
"""Pixels of the crop that speeds are given in."""
SHUT = 0.5
"""Blink value from which lids count as closed."""


def head_track(landmarks: Tensor, calm: int = 5) -> Tensor:
    """Where the head is: ``[..., f, 68, 2]`` in crop units to ``[..., f, 2]`` in pixels of 128.

    The mean of landmarks that neither speech nor the neck moves, averaged over ``calm`` frames: read landmarks tremble,
    and that is no movement.
    """
    track = landmarks[..., STABLE, :].mean(-2) * CROP
    if calm < 2:
        return track
    series = rearrange(track, "... t c -> (...) c t")
    padded = F.pad(series, (calm // 2, (calm - 1) // 2), mode="replicate")
    calmed = F.avg_pool1d(padded, calm, stride=1)
    return rearrange(calmed, "n c t -> n t c").reshape(track.shape)


def head_speed(landmarks: Tensor, calm: int = 5) -> Tensor:
    """Mean way of the head a frame, ``[..., f, 68, 2] -> [...]`` in pixels of 128."""
    return head_track(landmarks, calm).diff(dim=-2).norm(dim=-1).mean(-1)


def blinks_a_minute(values: Tensor, fps: float) -> float:
    """Times lids close, from facial values ``[f, 16]``."""
    shut = values[:, BLINK_VALUES].mean(1) > SHUT
    closings = int((shut[1:] & ~shut[:-1]).sum()) + int(shut[0])
    return 60 * fps * closings / len(values)


def spread_of_seeds(landmarks: Tensor) -> Tensor:
    """Mean distance of the same landmark in two videos that differ in their seed alone, in pixels of 128.

    Args:
        landmarks: ``[s, f, p, 2]`` of s seeds.

    Returns:
        ``[p]``.
    """
    pairs = [(landmarks[a] - landmarks[b]).norm(dim=-1).mean(0) for a in range(len(landmarks)) for b in range(a)]
    return torch.stack(pairs).mean(0) * CROP
