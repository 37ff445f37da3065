"""The lower face, which a new voice changes in a video: where its landmarks go, and the region that is replaced."""

from __future__ import annotations

import torch
from torch import Tensor

from .landmarks import LIPS
from .parts import ANCHORS, apply, similarity

SPOKEN = (*range(20), 54, 55, 56, 58, 59)
"""Landmarks that speech moves: lips, chin and the jaw line up to its middle."""
OUTLINE = (50, 56, 55, 54, 58, 59, 51)
"""The lower face's outline: from the nose wing at the picture's left down around the chin to the other wing."""
MARGIN, FEATHER = 0.03, 0.05
"""Growth of the outline but for its upper edge, and width of its soft edge beyond, in crop widths."""


def laid_on(face: Tensor, seen: Tensor) -> Tensor:
    """A face's landmarks ``[f, 68, 2]`` in the place of another reading of it, by eyes, nose and forehead."""
    anchors = list(ANCHORS)
    return apply(similarity(face[:, anchors], seen[:, anchors]), face)


def respoken(spoken: Tensor, seen: Tensor) -> Tensor:
    """The landmarks of a face that keeps its pose, eyes and brows and says something else.

    Args:
        spoken: [f, 68, 2] with the wanted lips and jaw, in a pose about that of ``seen``.
        seen: [f, 68, 2] of the video's own face.
    """
    laid = laid_on(spoken, seen)
    # What a similarity leaves over at the nose (turns of the head) holds for the mouth beneath it.
    near = (seen - laid)[:, 49:52].mean(1, keepdim=True)
    result = seen.clone()
    result[:, SPOKEN] = (laid + near)[:, SPOKEN]
    return result


def with_lips_of(other: Tensor, seen: Tensor) -> Tensor:
    """A face's landmarks ``[f, 68, 2]`` with the lips of another reading of that person."""
    result = seen.clone()
    result[:, LIPS] = laid_on(other, seen)[:, LIPS]
    return result


def lower_face_mask(landmarks: Tensor, size: int) -> Tensor:
    """Soft mask [f, 1, size, size] of the lower face: 1 inside the outline, 0 beyond its feathered edge.

    Args:
        landmarks: [f, 68, 2] in [0, 1] of the crop.

    >>> lower_face_mask(torch.rand(2, 68, 2), 32).shape
    torch.Size([2, 1, 32, 32])
    """
    points = landmarks[:, OUTLINE]
    grid = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    place = torch.stack([x, y], -1).reshape(1, 1, -1, 2)
    ends = points.roll(-1, 1)
    along = torch.nn.functional.normalize(ends - points, dim=-1)
    # The outline runs down the left side, around the chin and up the right one: its outside is on each edge's right.
    outward = torch.stack([-along[..., 1], along[..., 0]], -1)
    distance = ((place - points[:, :, None]) * outward[:, :, None]).sum(-1)
    # The last edge, from wing to wing, does not grow: the eyes are near above it.
    distance[:, -1] += MARGIN + FEATHER
    distance = distance.amax(1)
    soft = ((MARGIN + FEATHER - distance) / FEATHER).clamp(0, 1)
    return (soft * soft * (3 - 2 * soft)).reshape(-1, 1, size, size)
