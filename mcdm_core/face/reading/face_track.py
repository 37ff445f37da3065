"""One face followed through a video: its canonical square and landmarks in every frame, and where it was lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..crops import FACE_FRACTION

if TYPE_CHECKING:
    from .face_network import FaceNetwork

SURE = 0.6
"""Confidence from which a reading counts as a face."""
LOOK_EVERY = 5
"""While the face is lost, one frame of so many is searched for it."""

Square = tuple[float, float, float]
"""Centre x, centre y and side in pixels."""


@dataclass(frozen=True)
class FaceTrack:
    """A face over N frames.

    Attributes:
        squares: [N, 3] centre x, centre y and side in pixels.
        landmarks: [N, 68, 2] in [0, 1] of the squares.
        found: [N] whether the face was seen; elsewhere the other two repeat the nearest frame where it was.
    """

    squares: Tensor
    landmarks: Tensor
    found: Tensor

    def __len__(self) -> int:
        return len(self.found)


@torch.no_grad()
def track_face(
    network: FaceNetwork, frames: Iterable[Tensor], box: Sequence[float] | None = None, number: int = 1
) -> FaceTrack:
    """Follow a face.

    Args:
        network: reads the frames; frames: [3, h, w] in [0, 1], one at a time.
        box: where the face is (left, top, right, bottom) in pixels when it is first seen; None for ``number``.
        number: which of several faces, the largest first.

    After a loss the face nearest to where it was is followed.
    """
    device = next(network.parameters()).device
    squares: list[Square | None] = []
    landmarks: list[Tensor] = []
    here: Square | None = None
    last: Square | None = _square_of(box) if box is not None else None
    waited = 0
    for frame in frames:
        signed = (frame * 2 - 1).to(device)
        if here is None:
            if waited % LOOK_EVERY == 0:
                here = _pick([face.square for face in network.detect(signed)], last, number)
            waited += 1
        if here is not None:
            square, points, confidence = network.refine(signed, here, steps=2)
            if confidence < SURE or not 0.5 < square[2] / here[2] < 2:
                here, waited = None, 0
            else:
                here = last = square
                corner = points.new_tensor([square[0] - square[2] / 2, square[1] - square[2] / 2])
                landmarks.append((points - corner) / square[2])
        squares.append(here)
    found = torch.tensor([square is not None for square in squares], dtype=torch.bool)
    if not landmarks:
        return FaceTrack(torch.zeros(len(found), 3), torch.zeros(len(found), 68, 2), found)
    nearest = _nearest_found(found)
    known = torch.tensor([square for square in squares if square is not None])
    return FaceTrack(known[nearest], torch.stack(landmarks)[nearest], found)


def _square_of(box: Sequence[float]) -> Square:
    side = max(box[2] - box[0], box[3] - box[1]) / FACE_FRACTION
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side


def _pick(faces: list[Square], last: Square | None, number: int) -> Square | None:
    """The face nearest to where it was, at most its own size away; without a past the ``number``-th largest."""
    if last is None:
        return faces[number - 1] if len(faces) >= number else None
    near = [face for face in faces if max(abs(face[0] - last[0]), abs(face[1] - last[1])) < 1.5 * last[2]]
    return min(near, key=lambda face: abs(face[0] - last[0]) + abs(face[1] - last[1]), default=None)


def _nearest_found(found: Tensor) -> Tensor:
    """For each frame the number, among the found ones, of the nearest of them.

    >>> _nearest_found(torch.tensor([False, True, False, False, True]))
    tensor([0, 0, 0, 1, 1])
    """
    places = found.nonzero()[:, 0]
    index = torch.arange(len(found))
    after = torch.searchsorted(places, index).clamp_max(len(places) - 1)
    before = (after - 1).clamp_min(0)
    closer = (index - places[before]).abs() <= (places[after] - index).abs()
    return torch.where(closer, before, after)
