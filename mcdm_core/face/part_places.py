"""Where the parts of a face lie in the frames of a clip, and how the head around them moves: found once a clip.

The guide, the painting of the crops and the finished frames all ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .compositing import SURROUNDINGS
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
    crop widths over :data:`SURROUNDINGS` crop widths (``outer_warp.py``)."""

    squares: Tensor
    regions: Tensor
    shown: Tensor
    flow: Tensor

    def __getitem__(self, frames: slice) -> PartPlaces:
        """Some of the frames."""
        return PartPlaces(self.squares[frames], self.regions[frames], self.shown[frames], self.flow[frames])

    def cpu(self) -> PartPlaces:
        """The same in float32 on the CPU."""
        return PartPlaces(*(x.cpu().float() for x in (self.squares, self.regions, self.shown, self.flow)))


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
    change = contour_change(part_shapes(landmarks, squares)[None], part_shapes(still, own), size)
    shown = shown_regions(regions.transpose(0, 1), change).transpose(0, 1)
    return PartPlaces(squares, regions, shown, outer_flow(every, landmarks, FLOW_CELLS, SURROUNDINGS))
