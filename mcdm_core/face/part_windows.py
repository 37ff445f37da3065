"""Upright square windows on mouth and eyes: where they lie, how they are cut out, how points move in and out of them.

A window is an affine map ``[2, 3]`` from the window's own coordinates, (x, y) in [0, 1], to those of its picture. Its
axes follow the line between the eyes, so the part stands upright in it; the eye at the picture's right is seen
mirrored, so that one network reads both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from .landmarks import (
    BROW_PICTURE_LEFT,
    BROW_PICTURE_RIGHT,
    EYE_PICTURE_LEFT,
    EYE_PICTURE_RIGHT,
    LIPS,
    constant,
    eye_centres,
    inter_ocular_distance,
)

_EYES_TO_MOUTH = 0.85
"""Inter-ocular distance over that from the eyes to the mouth, about the least of faces seen from the front."""


@dataclass(frozen=True)
class Part:
    """A part of the face: its landmarks, the side of its window in :func:`face_scale` and in pixels, if mirrored."""

    points: tuple[int, ...]
    extent: float
    size: int
    mirrored: bool = False


def _indices(*groups: slice) -> tuple[int, ...]:
    return tuple(index for group in groups for index in range(group.start, group.stop))


MOUTH = Part(_indices(LIPS), 1.8, 96)
EYE = Part(_indices(EYE_PICTURE_LEFT, BROW_PICTURE_LEFT), 1.3, 64)
"""The eye and brow at the picture's left."""
OTHER_EYE = Part(_indices(EYE_PICTURE_RIGHT, BROW_PICTURE_RIGHT), 1.3, 64, mirrored=True)


def face_scale(landmarks: Tensor) -> Tensor:
    """Size of a face ``[..., 68, 2] -> [...]``: its inter-ocular distance, or what that would be if it were not turned.

    A turned head's eyes lie closer together; the distance from the eyes to the mouth then takes over.
    """
    between = inter_ocular_distance(landmarks)
    down = (landmarks[..., LIPS, :].mean(-2) - eye_centres(landmarks).mean(-2)).norm(dim=-1)
    return torch.maximum(between, _EYES_TO_MOUTH * down).clamp_min(1e-6)


def upright_windows(landmarks: Tensor, part: Part, margin: float = 1.0) -> Tensor:
    """Windows ``[b, 2, 3]`` of a part of faces ``[b, 68, 2]``, ``margin`` times as large as usual."""
    eyes = eye_centres(landmarks)
    across = eyes[:, 1] - eyes[:, 0]
    right = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    down = torch.stack([-right[:, 1], right[:, 0]], -1)
    side = (margin * part.extent * face_scale(landmarks))[:, None]
    axes = torch.stack([(-right if part.mirrored else right) * side, down * side], -1)
    centre = landmarks[:, constant(part.points, landmarks.device)].mean(1)
    return torch.cat([axes, (centre - axes.sum(-1) / 2)[..., None]], -1)


def out_of_windows(windows: Tensor, points: Tensor) -> Tensor:
    """Points ``[b, k, 2]`` of windows ``[b, 2, 3]`` in the coordinates of the picture."""
    return points @ windows[..., :2].transpose(-1, -2) + windows[..., None, :, 2]


def into_windows(windows: Tensor, points: Tensor) -> Tensor:
    """Points ``[b, k, 2]`` of the picture in the coordinates of windows ``[b, 2, 3]``."""
    a, b, c, d = (windows[..., row, column, None] for row in (0, 1) for column in (0, 1))
    x, y = (points - windows[..., None, :, 2]).unbind(-1)
    return torch.stack([d * x - b * y, a * y - c * x], -1) / (a * d - b * c)[..., None]


def cut_windows(pictures: Tensor, windows: Tensor, size: int) -> Tensor:
    """What is seen in windows: ``[b, 3, h, w]``, ``[b, 2, 3]`` to ``[b, 3, size, size]``, edges repeated.

    Sampling is bilinear: a picture much finer than the window should be shrunk before.
    """
    steps = (torch.arange(size, device=pictures.device, dtype=torch.float32) + 0.5) / size
    places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2).expand(len(windows), -1, -1)
    grid = out_of_windows(windows.float(), places).unflatten(1, (size, size)) * 2 - 1
    return functional.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)
