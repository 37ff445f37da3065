"""Where the parts of a face lie in the frames of a clip, and how the head around them moves: found once a clip.

The guide, the painting of the crops and the finished frames all ask for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .compositing.crop import SURROUNDINGS
from .outer_warp import outer_flow
from .part_shapes import contour_change, part_shapes, shown_regions
from .parts import moved_squares, reference_squares, unknown_regions

FLOW_CELLS = 48
CROP_CELLS = slice(8, 40)
"""Cells of the flow that cover the face crop, which is ``1 / SURROUNDINGS`` of its width."""


@dataclass(frozen=True)
class PartPlaces:
    """Of f frames: squares of the parts ``[f, 2, 2, 3]`` in crop units, and regions in them ``[f, 2, 1, s, s]``. Some
    are painted, some shown (:func:`~.part_shapes.shown_regions`). The head's movement is a flow ``[f, 2, 48, 48]`` in
    crop widths over :data:`SURROUNDINGS` crop widths (``outer_warp.py``). Contours ``[f, 2, 48]`` are in the parts
    (``part_shapes.py``)."""

    squares: Tensor
    regions: Tensor
    shown: Tensor
    flow: Tensor
    shapes: Tensor

    def __getitem__(self, frames: slice) -> PartPlaces:
        """Some of the frames."""
        return self._each(lambda values: values[frames])

    def chosen(self, frames: Tensor) -> PartPlaces:
        """Frames by their numbers."""
        return self._each(lambda values: values[frames])

    def on(self, device: torch.device) -> PartPlaces:
        """The same in float32 on a device."""
        return self._each(lambda values: values.to(device).float())

    def _each(self, change: Callable[[Tensor], Tensor]) -> PartPlaces:
        return PartPlaces(*(change(getattr(self, field.name)) for field in dataclasses.fields(self)))


def part_places(reference: Tensor, landmarks: Tensor, size: int) -> PartPlaces:
    """Places of the parts in frames.

    Args:
        reference: landmarks of the portrait ``[68, 2]`` in crop units; landmarks: of the frames ``[f, 68, 2]``.
        size: side of a part in pixels.
    """
    still = reference[None].to(landmarks)
    every, own = still.expand(len(landmarks), -1, -1), reference_squares(still)
    squares = moved_squares(own, still, landmarks[None])[0]
    regions = unknown_regions(every, own.expand(len(landmarks), -1, -1, -1), landmarks, squares, size)
    shapes = part_shapes(landmarks, squares)
    change = contour_change(shapes[None], part_shapes(still, own), size)
    shown = rearrange(shown_regions(rearrange(regions, "f p ... -> p f ..."), change), "p f ... -> f p ...")
    return PartPlaces(squares, regions, shown, outer_flow(every, landmarks, FLOW_CELLS, SURROUNDINGS), shapes)
