"""Lips, lids and brows read a second time, on zoomed and upright cuts of the picture at its own resolution.

The face network reads the whole face at 128 px, where a lip is three pixels high. Its points place upright windows on
the mouth and on each eye. Small heat-map networks read these again at about 50 px for an inter-ocular distance. The eye
at the picture's right is seen mirrored, so that one network reads both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..landmarks import (
    BROW_PICTURE_LEFT,
    BROW_PICTURE_RIGHT,
    EYE_PICTURE_LEFT,
    EYE_PICTURE_RIGHT,
    LIPS,
    constant,
    eye_centres,
    inter_ocular_distance,
)
from ..parts import apply, cut
from .heat_maps import soft_argmax

DETAIL_SIZE = 256
"""Side of the face crop whose pixels the windows are cut from; finer ones add nothing at the windows' size."""

_EYES_TO_MOUTH = 0.85
"""Inter-ocular distance over that from the eyes to the mouth, about the least of faces seen from the front."""


@dataclass(frozen=True)
class Window:
    """What is read in a window: the landmarks, its side in :func:`face_scale` and in pixels, if it is mirrored."""

    points: tuple[int, ...]
    extent: float
    size: int
    mirrored: bool = False


def _indices(*groups: slice) -> tuple[int, ...]:
    return tuple(index for group in groups for index in range(group.start, group.stop))


MOUTH = Window(_indices(LIPS), 1.8, 96)
EYE = Window(_indices(EYE_PICTURE_LEFT, BROW_PICTURE_LEFT), 1.3, 64)
"""The eye and brow at the picture's left."""
OTHER_EYE = Window(_indices(EYE_PICTURE_RIGHT, BROW_PICTURE_RIGHT), 1.3, 64, mirrored=True)


def face_scale(landmarks: Tensor) -> Tensor:
    """Size of a face ``[..., 68, 2] -> [...]``: its inter-ocular distance, or what that would be if it were not turned.

    A turned head's eyes lie closer together; the distance from the eyes to the mouth then takes over.
    """
    between = inter_ocular_distance(landmarks)
    down = (landmarks[..., LIPS, :].mean(-2) - eye_centres(landmarks).mean(-2)).norm(dim=-1)
    return torch.maximum(between, _EYES_TO_MOUTH * down).clamp_min(1e-6)


def upright_windows(landmarks: Tensor, window: Window, margin: float = 1.0) -> Tensor:
    """Where a window lies on faces ``[b, 68, 2]``: maps ``[b, 2, 3]`` as in ``parts.py``, axes along the eyes.

    Args:
        margin: times as large as usual.
    """
    eyes = eye_centres(landmarks)
    across = eyes[:, 1] - eyes[:, 0]
    right = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    down = torch.stack([-right[:, 1], right[:, 0]], -1)
    side = (margin * window.extent * face_scale(landmarks))[:, None]
    axes = torch.stack([(-right if window.mirrored else right) * side, down * side], -1)
    centre = landmarks[:, constant(window.points, landmarks.device)].mean(1)
    return torch.cat([axes, (centre - axes.sum(-1) / 2)[..., None]], -1)


WINDOWS: tuple[Window, ...] = (MOUTH, EYE, OTHER_EYE)


class PartReading(NamedTuple):
    """Landmarks ``[b, 68, 2]``, and how sure the networks are that a part is covered: ``[b, 3]`` in [0, 1].

    Parts in order: mouth, eye at the picture's left, eye at its right.
    """

    landmarks: Tensor
    covered: Tensor


def _unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class PartNetwork(nn.Module):
    """Heat maps of one part at a quarter of its window's size; the first layer sees 2x2 pixels as channels.

    Args:
        points: how many it reads.
        channels: widths at 1/2, 1/4, 1/8 and 1/16 of the window.
    """

    def __init__(self, points: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        a, b, c, d = channels
        self.level_a = nn.Sequential(_unit(12, a), _unit(a, a))
        self.level_b = nn.Sequential(_unit(a, b, 2), _unit(b, b))
        self.level_c = nn.Sequential(_unit(b, c, 2), _unit(c, c))
        self.level_d = nn.Sequential(_unit(c, d, 2), _unit(d, d))
        self.up_c = _unit(d + c, c)
        self.up_b = nn.Sequential(_unit(c + b, b), _unit(b, b))
        self.heat = nn.Conv2d(b, points, 1)
        self.cover = nn.Linear(2 * d, 1)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Windows ``[b, 3, s, s]`` in [-1, 1] to points ``[b, k, 2]`` in [0, 1] and the logit ``[b]`` of a cover."""
        a = self.level_a(functional.pixel_unshuffle(window, 2))
        b = self.level_b(a)
        c = self.level_c(b)
        d = self.level_d(c)
        y = self.up_c(torch.cat([functional.interpolate(d, scale_factor=2.0, mode="nearest"), c], 1))
        y = self.up_b(torch.cat([functional.interpolate(y, scale_factor=2.0, mode="nearest"), b], 1))
        pooled = torch.cat([d.mean((2, 3)), d.amax((2, 3))], 1)
        return soft_argmax(self.heat(y).float()), self.cover(pooled)[:, 0].float()


class PartReader(nn.Module):
    """Both networks: ``lips``, and ``eye`` for both eyes with their brows.

    Args:
        channels: widths of the mouth's network; the eyes' has three quarters of them.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.lips = PartNetwork(len(MOUTH.points), channels)
        self.eye = PartNetwork(len(EYE.points), tuple(3 * width // 4 for width in channels))

    def network_of(self, window: Window) -> PartNetwork:
        """The network that reads a window."""
        return self.lips if window is MOUTH else self.eye

    def forward(self, pictures: Tensor, landmarks: Tensor) -> PartReading:
        """Read lips, lids and brows again.

        Args:
            pictures: face crops ``[b, 3, s, s]`` in [-1, 1], as fine as there are (shrunk to 256 px if finer).
            landmarks: the first reading ``[b, 68, 2]`` in [0, 1] of the crops.

        Returns:
            The landmarks with these points replaced, and the parts' covers.
        """
        if pictures.shape[-1] > DETAIL_SIZE:
            pictures = functional.interpolate(
                pictures, size=(DETAIL_SIZE, DETAIL_SIZE), mode="bilinear", antialias=True, align_corners=False
            )
        read = self._read_once(pictures, landmarks)
        # Windows that the first reading put a little aside or too large are put right by the second.
        return self._read_once(pictures, read.landmarks)

    def _read_once(self, pictures: Tensor, landmarks: Tensor) -> PartReading:
        read, covers = landmarks.clone(), []
        for window in WINDOWS:
            squares = upright_windows(landmarks, window)
            points, cover = self.network_of(window)(cut(pictures.float(), squares.float(), window.size))
            read[:, list(window.points)] = apply(squares, points).to(read.dtype)
            covers.append(cover.sigmoid())
        return PartReading(read, torch.stack(covers, 1))
