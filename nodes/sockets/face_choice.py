"""Which face of a portrait is meant: by a mask, a box, or a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...mcdm_core.errors import FaceNotFoundError, MediaError
from ..comfy.media import media_bridge
from ..comfy.page.node_run import NodeRun
from ..comfy.page.notes import note

if TYPE_CHECKING:
    from ..comfy.models.pipeline_loading import ManagedPipeline

Box = tuple[float, float, float, float]


def choose_face(
    run: NodeRun, pipeline: ManagedPipeline, portrait: torch.Tensor, mask: torch.Tensor | None, box: Box, number: int
) -> Box | None:
    """The face's box in a portrait [3, h, w] as a mask, the widgets or a number say; None for the largest.

    Raises:
        MediaError: for a box that is empty or outside; FaceNotFoundError: if there are fewer faces than ``number``.
    """
    height, width = portrait.shape[-2:]
    if mask is not None and not media_bridge.is_background_mask(mask):
        marked = media_bridge.mask_to_box(mask, width, height)
        if marked is not None:
            return marked
        note(run, "The input 'mask' marks nothing; the face is searched for. Paint over it in the mask editor.")
    if any(box):
        return clipped_box(run, box, width, height)
    if number == 1:
        return None
    boxes = pipeline.detect_faces(portrait)
    if len(boxes) < number:
        raise FaceNotFoundError(
            f"face_number is {number}, but {len(boxes)} faces were found in the portrait of {width}x{height} pixels. "
            "Lower it, or paint over the face in the mask editor."
        )
    return boxes[number - 1]


def clipped_box(run: NodeRun, box: Box, width: int, height: int) -> Box:
    """A box within the picture, with a note if it reached beyond.

    Raises:
        MediaError: if nothing of it lies in the picture.
    """
    left, top, right, bottom = box
    inside = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if not (left < right and top < bottom):
        raise MediaError(
            f"The face box is empty: box_left {left:g}, box_top {top:g}, box_right {right:g}, box_bottom {bottom:g}. "
            "Set left below right and top below bottom, or all four to 0 to have the face found."
        )
    if not (inside[0] < inside[2] and inside[1] < inside[3]):
        raise MediaError(
            f"The face box lies outside the picture of {width}x{height} pixels (box_left {left:g}, box_top {top:g}). "
            "Move it, or set all four to 0 to have the face found."
        )
    if inside != box:
        note(run, f"The face box reaches beyond the picture of {width}x{height} pixels; only what lies inside counts.")
    return inside
