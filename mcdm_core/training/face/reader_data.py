"""Windows on mouth and eyes cut once out of labelled frames, and how batches are drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ...data.shards import read_rows
from ...face.landmarks import INNER_LIP_PAIRS, LID_PAIRS, MIRROR
from ...face.parts import apply, cut, inverse
from ...face.reading.part_reader import EYE, MOUTH, OTHER_EYE, Window, face_scale, upright_windows
from ...media.pixels import to_bytes, to_unit
from ..frame_store import split_count

MARGIN = 1.5
"""Side of a stored window over that of the one that is read: room for turn, scale and shift."""
_CUT_AT_A_TIME = 64
_CELLS = 8
"""Steps of opening that are drawn equally often, as far as there are enough of each."""
_OPENING_STEP = 0.035

MOUTH_MIRROR = MIRROR[: len(MOUTH.points)]
MOUTH_GAPS: tuple[tuple[int, int], ...] = INNER_LIP_PAIRS
MOUTH_CORNERS = (0, 6, 12, 16)
EYE_GAPS: tuple[tuple[int, int], ...] = tuple((a - EYE.points[0], b - EYE.points[0]) for a, b in LID_PAIRS[0])
EYE_CORNERS = (0, 4)


@dataclass
class PartWindows:
    """Windows uint8 ``[n, 3, s, s]`` of one part with points ``[n, k, 2]`` in [0, 1] of them.

    ``scale`` ``[n]``: the face's size in window widths, which errors are measured in.
    """

    windows: Tensor
    points: Tensor
    scale: Tensor
    gaps: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.windows)

    def openings(self) -> Tensor:
        """Mean gap over the face's size: ``[n]``."""
        return gap(self.points, self.gaps) / self.scale

    def draw(self, count: int) -> Tensor:
        """Indices ``[count]``, so that all degrees of opening are met about equally often."""
        cell = (self.openings() / _OPENING_STEP).long().clamp_max(_CELLS - 1)
        filled = torch.bincount(cell, minlength=_CELLS).float()
        # The square root keeps the few faces of a rare cell from being seen over and over.
        weight = filled.clamp_min(1).rsqrt()[cell]
        return torch.multinomial(weight, count, replacement=True)


def gap(points: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Mean distance of facing points: ``[n, k, 2] -> [n]``."""
    index = torch.tensor(pairs, device=points.device)
    return (points[:, index[:, 0]] - points[:, index[:, 1]]).norm(dim=-1).mean(1)


def cut_parts(frames: Tensor, landmarks: Tensor, window: Window, gaps: tuple[tuple[int, int], ...]) -> PartWindows:
    """Windows ``MARGIN`` times as large as those read, of frames uint8 ``[n, h, w, 3]`` with points ``[n, 68, 2]``."""
    windows = upright_windows(landmarks, window, MARGIN)
    size = round(MARGIN * window.size)
    cuts = []
    for start in range(0, len(frames), _CUT_AT_A_TIME):
        rows = slice(start, start + _CUT_AT_A_TIME)
        cuts.append(to_bytes(cut(rearrange(to_unit(frames[rows]), "n h w c -> n c h w"), windows[rows], size)))
    points = apply(inverse(windows), landmarks[:, list(window.points)])
    side = windows[:, :, 0].norm(dim=1)
    return PartWindows(torch.cat(cuts), points, face_scale(landmarks) / side, gaps)


def load_parts(folder: Path, every: int, device: torch.device | str = "cpu") -> tuple[PartWindows, PartWindows] | None:
    """Mouths and eyes of every ``every``-th frame of a folder's shards, or None if it has none."""
    read = read_rows(folder, ("frames", "landmarks"), every, device=device)
    if read is None:
        return None
    frames, landmarks = read["frames"], read["landmarks"].float()
    left, right = (cut_parts(frames, landmarks, window, EYE_GAPS) for window in (EYE, OTHER_EYE))
    eyes = PartWindows(
        torch.cat([left.windows, right.windows]),
        torch.cat([left.points, right.points]),
        torch.cat([left.scale, right.scale]),
        EYE_GAPS,
    )
    return cut_parts(frames, landmarks, MOUTH, MOUTH_GAPS), eyes


def drawn_batch(sources: Sequence[PartWindows], shares: Sequence[float], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows in [-1, 1] with points and scale, ``shares`` of ``count`` from each source, shuffled."""
    windows, points, scale = [], [], []
    for source, number in zip(sources, split_count(count, shares), strict=True):
        index = source.draw(number)
        windows.append(source.windows[index])
        points.append(source.points[index])
        scale.append(source.scale[index])
    order = torch.randperm(count, device=points[0].device)
    return to_unit(torch.cat(windows)[order]), torch.cat(points)[order], torch.cat(scale)[order]


def mirrored_mouths(windows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the mouths seen in a mirror."""
    flip = torch.rand(len(windows), device=windows.device) < 0.5
    other = points[:, torch.tensor(MOUTH_MIRROR, device=points.device)]
    other = torch.stack([1 - other[..., 0], other[..., 1]], -1)
    return (
        torch.where(flip[:, None, None, None], windows.flip(3), windows),
        torch.where(flip[:, None, None], other, points),
    )
