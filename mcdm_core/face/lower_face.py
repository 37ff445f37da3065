"""The lower face, which a new voice changes in a video: where its landmarks go, and the region that is replaced."""

from __future__ import annotations

import torch
from torch import Tensor

ANCHORS = (20, 24, 28, 32, 46, 47, 48, 49, 50, 51)
"""Landmarks that speech does not move and that lie around the mouth or above: eye corners and nose."""
SPOKEN = (*range(20), 54, 55, 56, 58, 59)
"""Landmarks that speech moves: lips, chin and the jaw line up to its middle."""
OUTLINE = (50, 56, 55, 54, 58, 59, 51)
"""The lower face's outline: from the nose wing at the picture's left down around the chin to the other wing."""
MARGIN, FEATHER = 0.03, 0.05
"""Growth of the outline but for its upper edge, and width of its soft edge beyond, in crop widths."""


def similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity that lays points on points, by least squares (Umeyama 1991, without reflections).

    Args:
        source, target: [f, k, 2].

    Returns:
        Matrices [f, 2, 2] (rotation times scale) and shifts [f, 1, 2]: ``source @ matrix.mT + shift``.
    """
    source_mean, target_mean = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    a, b = source - source_mean, target - target_mean
    # In the plane the best rotation and scale are one complex number.
    weight = a.square().sum((1, 2)).clamp_min(1e-12)
    real = (a * b).sum((1, 2)) / weight
    imaginary = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / weight
    matrix = torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], -2)
    return matrix, target_mean - source_mean @ matrix.mT


def respoken(spoken: Tensor, seen: Tensor) -> Tensor:
    """The landmarks of a face that keeps its pose, eyes and brows and says something else.

    Args:
        spoken: [f, 68, 2] with the wanted lips and jaw, in a pose about that of ``seen``.
        seen: [f, 68, 2] of the video's own face.
    """
    matrix, shift = similarity(spoken[:, ANCHORS], seen[:, ANCHORS])
    laid = spoken @ matrix.mT + shift
    # What a similarity leaves over at the nose (turns of the head) holds for the mouth beneath it.
    near = (seen - laid)[:, 49:52].mean(1, keepdim=True)
    result = seen.clone()
    result[:, SPOKEN] = (laid + near)[:, SPOKEN]
    return result


def lower_face_mask(landmarks: Tensor, size: int) -> Tensor:
    """Soft mask [f, 1, size, size] of the lower face: 1 inside the outline, 0 beyond its feathered edge.

    Args:
        landmarks: [f, 68, 2] in [0, 1] of the crop.
    """
    points = landmarks[:, OUTLINE]
    grid = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    place = torch.stack([x, y], -1).reshape(1, 1, -1, 2)
    ends = points.roll(-1, 1)
    along = torch.nn.functional.normalize(ends - points, dim=-1)
    # In the picture the outline runs left side, chin, right side: its outside lies at the right of each edge.
    outward = torch.stack([-along[..., 1], along[..., 0]], -1)
    distance = ((place - points[:, :, None]) * outward[:, :, None]).sum(-1)
    # The last edge, from wing to wing, does not grow: the eyes are near above it.
    distance[:, -1] += MARGIN + FEATHER
    distance = distance.amax(1)
    soft = ((MARGIN + FEATHER - distance) / FEATHER).clamp(0, 1)
    return (soft * soft * (3 - 2 * soft)).reshape(-1, 1, size, size)
