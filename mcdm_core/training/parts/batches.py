"""Batches for the denoiser of parts: a portrait, target frames, and an archive that may hold what the portrait lacks.

Most portraits have closed lips and open eyes, as users' do. The archive is the clip's own past, other frames of it with
teeth or lids like the target's, or any others. It may also be the portrait repeated, as at a video's start. A still's
portrait has its lips warped shut, or lips and lids moved. Its target is the photograph as it is, or with its eyes or
lips shut; its archive is often another of these pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face.part_guide import PartViews, part_views, true_parts
from ...face.parts import NUM_PARTS, compose, reference_squares
from .rows import MOVED, STILL_AS_IS, STILL_BLINK, STILL_MOVED, STILL_SHUT, ClipRows, FrameRows

OPEN_LIPS = 0.04
"""Lip opening of a still from which it has teeth to show."""
_BLINK_SHARE = 0.25
"""Share of stills whose eyes are to be painted shut, and of filmed clips that are drawn around a blink."""


@dataclass(frozen=True)
class Drawn:
    """Rows of a batch: ``reference [b]``, ``target [b, f]``, ``archive [b, f]``; ``before`` and ``before_archive`` are
    those of the clip ahead of the target, for a carried memory."""

    reference: Tensor
    target: Tensor
    archive: Tensor
    before: Tensor
    before_archive: Tensor


@dataclass(frozen=True)
class Appearance:
    """What one draw of augmentation does to every picture of a clip: gain and offset of colours ``[b, 3, 1, 1]``, and
    jittered squares of its portrait ``[b, 2, 2, 3]``."""

    gain: Tensor
    offset: Tensor
    squares: Tensor

    def tinted(self, pictures: Tensor) -> Tensor:
        """Pictures ``[b, ..., 3, h, w]`` in other colours."""
        shape = (len(pictures), *(1,) * (pictures.dim() - 4), 3, 1, 1)
        return (pictures * self.gain.view(shape) + self.offset.view(shape)).clamp(-1, 1)


class BatchDrawer:
    """Draws clips of each folder with the given shares.

    Args:
        seed: or what the training keeps in its resume file (``LoopSettings.draws``).
    """

    def __init__(
        self, rows: FrameRows, frames: int, shares: Sequence[float], seed: int | np.random.Generator = 0
    ) -> None:
        self.rows, self.frames = rows, frames
        self.random = np.random.default_rng(seed)
        groups = sorted({clip.group for clip in rows.clips})
        self._of_group = [[clip for clip in rows.clips if clip.group == group] for group in groups]
        weights = np.array([shares[group] for group in groups], dtype=float)
        self._chance = weights / weights.sum()

    def draw(self, number: int) -> Drawn:
        """Rows of ``number`` clips."""
        picked = []
        for group in self.random.choice(len(self._of_group), number, p=self._chance):
            clips = self._of_group[group]
            clip = clips[self.random.integers(len(clips))]
            picked.append(self._still(clip) if clip.still else self._moving(clip))
        columns = (torch.tensor(np.array(column)) for column in zip(*picked, strict=True))
        return Drawn(*(column.to(self.rows.device) for column in columns))

    def _still(self, clip: ClipRows) -> tuple[int, list[int], list[int], list[int], list[int]]:
        as_is, shut, frames = clip.first + STILL_AS_IS, clip.first + STILL_SHUT, self.frames
        moved = clip.first + STILL_MOVED + int(self.random.integers(MOVED))
        teeth, chance = float(self.rows.lips[as_is]) > OPEN_LIPS, self.random.random()
        reference = moved if chance < 0.5 else shut if teeth and chance < 0.85 else as_is
        blink = self.random.random() < _BLINK_SHARE
        if blink:
            reference = as_is
        # Lips that shut over teeth are seen in the portrait: some targets are the shut ones.
        target = (
            clip.first + STILL_BLINK if blink else as_is if self.random.random() < (0.65 if teeth else 0.4) else shut
        )
        # Another picture of the same teeth or lids, never the answer: that would be copied.
        others = [row for row in range(clip.first, clip.first + clip.length) if row not in (target, reference)]
        archive = int(self.random.choice(others)) if self.random.random() < 0.7 else reference
        return reference, [target] * frames, [archive] * frames, [reference] * frames, [reference] * frames

    def _moving(self, clip: ClipRows) -> tuple[int, list[int], list[int], list[int], list[int]]:
        frames = self.frames
        needed = min(3 * frames, clip.length)
        begin = clip.first + int(self.random.integers(clip.length - needed + 1))
        if self.random.random() < _BLINK_SHARE:
            begin = self._before_blink(clip, needed)
        end = begin + needed

        def window(first: int) -> list[int]:
            return list(range(first, first + frames))

        reference = self._portrait(clip)
        target, chance = window(end - frames), self.random.random()
        if chance < 0.35:
            archive = window(end - 2 * frames)
        elif chance < 0.75:
            archive = self._alike(clip, target)
        elif chance < 0.9:
            archive = window(clip.first + int(self.random.integers(clip.length - frames + 1)))
        else:
            archive = [reference] * frames
        return reference, target, archive, window(max(begin, end - 2 * frames)), window(begin)

    def _before_blink(self, clip: ClipRows, needed: int) -> int:
        """First row of a window of ``needed`` whose last frames, the target, hold the clip's lowest lids."""
        lowest = int(self.rows.lids[clip.first : clip.first + clip.length].argmin())
        within = int(self.random.integers(1, self.frames + 1))
        return clip.first + min(max(lowest + within - needed, 0), clip.length - needed)

    def _alike(self, clip: ClipRows, target: list[int]) -> list[int]:
        """Other frames of the clip with mouths as wide as the target's widest, or lids as low as its lowest."""
        rows = self.rows
        own = torch.arange(clip.first, clip.first + clip.length, device=rows.device)
        if self.random.random() < 0.7:
            apart = (rows.lips[own] - rows.lips[target].max()).abs()
        else:
            apart = (rows.lids[own] - rows.lids[target].min()).abs()
        apart[torch.isin(own, torch.tensor(target, device=rows.device))] = torch.inf
        return sorted(own[apart.argsort()[: self.frames]].tolist())

    def _portrait(self, clip: ClipRows) -> int:
        """A frame as portrait: mostly closed lips and open eyes, sometimes closed eyes, sometimes any."""
        some = clip.first + self.random.integers(clip.length, size=8)
        lips, lids, chance = self.rows.lips[some], self.rows.lids[some], self.random.random()
        if chance < 0.6:
            return int(some[int((lips - 2 * lids).argmin())])
        return int(some[int(lids.argmin())]) if chance < 0.75 else int(some[0])

    def appearance(self, reference: Tensor) -> Appearance:
        """Random colours and framing of clips with these portraits ``[b]``."""
        number, device = len(reference), self.rows.device
        squares = compose(reference_squares(self.rows.landmarks[reference]), _jitter(number, device))
        gain, offset = torch.randn(2, number, 3, 1, 1, device=device)
        return Appearance(1 + gain * 0.08, offset * 0.06, squares)

    def views(self, reference: Tensor, frames: Tensor, look: Appearance, size: int, shake: float = 0.0) -> PartViews:
        """Rows ``[b, f]`` seen through their parts; ``shake`` is the error of the landmarks in crop widths."""
        rows = self.rows
        error = torch.randn(len(frames), 1, *rows.landmarks.shape[1:], device=rows.device) * shake
        points = rows.landmarks[frames] + error
        portraits = look.tinted(rows.picture(reference))
        return part_views(portraits, rows.landmarks[reference], points, size, look.squares)

    def true(self, frames: Tensor, views: PartViews, look: Appearance, size: int) -> Tensor:
        """The true parts ``[b*2, f, 3, size, size]`` of rows ``[b, f]``."""
        return true_parts(look.tinted(self.rows.picture(frames)), views.squares, size)


def _jitter(number: int, device: torch.device) -> Tensor:
    """Small turns, shifts and sizes of squares about their middle, ``[number, 2, 2, 3]``."""
    size, turn = torch.randn(2, number, NUM_PARTS, device=device) * 0.05
    size = 1 + size
    cosine, sine = torch.cos(turn) * size, torch.sin(turn) * size
    linear = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    shift = 0.5 - linear.sum(-1) / 2 + torch.randn(number, NUM_PARTS, 2, device=device) * 0.03
    return torch.cat([linear, shift[..., None]], -1)
