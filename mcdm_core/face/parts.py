"""The parts of a face that are painted: a square around the mouth and one around both eyes.

A part is an upright square in the head's own frame. It shifts, turns and grows with the head, so that mouth and eyes
stay where they are in it. In this view a portrait that is held still already follows the head. What is left to paint is
what lips, lids and gaze do. Squares are affine maps ``[..., 2, 3]`` from [0, 1]^2 of the part to [0, 1]^2 of the face
crop. A choice of ours (C) for presets too small to paint a whole face well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .landmarks import BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT, EYE_CORNERS, LIPS, constant, eye_centres

NUM_PARTS = 2
MOUTH, EYES = 0, 1
ANCHORS = (20, 24, 28, 32, 46, 47, 48, 49, 61, 62, 63)
"""Eye corners, nose, temples and forehead: what a head's movement is read from."""
MOUTH_SIDE, EYES_SIDE = 1.7, 2.0
"""Sides of the two squares in inter-ocular distances."""
_MOUTH_BELOW, _EYES_ABOVE = 0.06, 0.12
"""How far the squares' middles lie below the lips' and above the eyes' middle, in inter-ocular distances."""


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """Least-squares shift, turn and scale from one set of points to another (Umeyama 1991, in the plane).

    Args:
        source, target: ``[b, k, 2]``.

    Returns:
        ``[b, 2, 3]``.

    Example:
        >>> points = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> moved = 2 * points + torch.tensor([1.0, -1.0])
        >>> torch.allclose(apply(similarity(points, moved), points), moved, atol=1e-5)
        True
    """
    source_mean, target_mean = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    a, b = source - source_mean, target - target_mean
    size = a.square().sum((1, 2)).clamp_min(1e-9)
    cosine = (a * b).sum((1, 2)) / size
    sine = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / size
    turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], 1)
    shift = target_mean[:, 0] - (turn @ source_mean[:, 0, :, None])[..., 0]
    return torch.cat([turn, shift[..., None]], -1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine map ``outer`` after ``inner``, both ``[..., 2, 3]``.

    >>> twice = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> aside = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> compose(twice, aside)
    tensor([[2., 0., 2.],
            [0., 2., 0.]])
    """
    linear = outer[..., :2] @ inner[..., :2]
    return torch.cat([linear, outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], -1)


def inverse(affine: Tensor) -> Tensor:
    """The inverse of affine maps ``[..., 2, 3]``.

    >>> inverse(torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 0.0]]))
    tensor([[ 1., -1., -1.],
            [-1.,  2.,  1.]])
    """
    # Written out: a library would ask whether it went well, and the host wait for a GPU's answer.
    (a, b), (c, d) = (row.unbind(-1) for row in affine[..., :2].unbind(-2))
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    linear = adjugate / (a * d - b * c)[..., None, None]
    return torch.cat([linear, -linear @ affine[..., 2:]], -1)


def apply(affine: Tensor, points: Tensor) -> Tensor:
    """Affine maps ``[..., 2, 3]`` on points ``[..., k, 2]``.

    >>> apply(torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    tensor([[2., 1.]])
    """
    return points @ affine[..., :2].mT + affine[..., None, :, 2]


def reference_squares(landmarks: Tensor) -> Tensor:
    """Squares of mouth and eyes of portraits: landmarks ``[b, 68, 2]`` to ``[b, 2, 2, 3]``."""
    eyes = eye_centres(landmarks)
    across = eyes[:, 1] - eyes[:, 0]
    length = across.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    down = torch.stack([-across[:, 1], across[:, 0]], -1) / length
    outline = landmarks[:, LIPS][:, [0, 3, 6, 9]].mean(1)
    mouth = _square(outline + _MOUTH_BELOW * length * down, across / length, down, MOUTH_SIDE * length)
    above = eyes.mean(1) - _EYES_ABOVE * length * down
    return torch.stack([mouth, _square(above, across / length, down, EYES_SIDE * length)], 1)


def moved_squares(squares: Tensor, reference: Tensor, landmarks: Tensor) -> Tensor:
    """A portrait's squares carried along by the head.

    Args:
        squares: of the portrait ``[b, 2, 2, 3]``; reference: its landmarks ``[b, 68, 2]``.
        landmarks: of the frames ``[b, f, 68, 2]``.

    Returns:
        ``[b, f, 2, 2, 3]``.
    """
    anchors = list(ANCHORS)
    frames = landmarks.shape[1]
    still = reference[:, None, anchors].expand(-1, frames, -1, -1)
    motion = similarity(still.flatten(0, 1), landmarks[:, :, anchors].flatten(0, 1)).unflatten(0, (-1, frames))
    return compose(motion[:, :, None], squares[:, None])


def cut(pictures: Tensor, squares: Tensor, size: int) -> Tensor:
    """A part of each picture: ``[n, 3, h, w]``, squares ``[n, 2, 3]`` to ``[n, 3, size, size]``, edges repeated."""
    cells = cell_centres(size, pictures.device).expand(len(squares), -1, -1)
    grid = apply(squares.to(pictures), cells.to(pictures)).view(len(squares), size, size, 2) * 2 - 1
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def cell_centres(size: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres of ``size x size`` cells of [0, 1]^2, ``[size * size, 2]`` (x, y), row by row.

    >>> cell_centres(2)
    tensor([[0.2500, 0.2500],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.7500, 0.7500]])
    """
    steps = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([across, down], -1).view(-1, 2)


def unknown_regions(reference: Tensor, squares: Tensor, landmarks: Tensor, moved: Tensor, size: int) -> Tensor:
    """Where a part has to be painted: mouth or lids, and the skin they may take up.

    Asked of the frame are the nose, the chin and the eyes' corners alone. Nothing here tells what its lips or lids do,
    which is for the motion tokens to say.

    Args:
        reference: landmarks of the portraits ``[n, 68, 2]``; squares: theirs ``[n, 2, 2, 3]``.
        landmarks: of the frames ``[n, 68, 2]``; moved: squares of the frames ``[n, 2, 2, 3]``.
        size: side of the result; a multiple of 2.

    Returns:
        ``[n, 2, 1, size, size]`` in [0, 1] with soft edges.
    """
    small = size // 2
    cells = cell_centres(small, landmarks.device)
    mouth = _mouth_region(cells, _seen(squares, reference, MOUTH), _seen(moved, landmarks, MOUTH))
    eyes = _eye_regions(cells, _seen(squares, reference, EYES), _seen(moved, landmarks, EYES))
    regions = torch.stack([mouth, eyes], 1).view(-1, NUM_PARTS, small, small)
    return F.interpolate(regions, scale_factor=2, mode="bilinear", align_corners=False)[:, :, None]


def _square(centre: Tensor, across: Tensor, down: Tensor, side: Tensor) -> Tensor:
    """The affine map of squares: centre ``[b, 2]``, unit axes ``[b, 2]``, side ``[b, 1]``."""
    linear = torch.stack([side * across, side * down], -1)
    return torch.cat([linear, (centre - linear.sum(-1) / 2)[..., None]], -1)


def _seen(squares: Tensor, landmarks: Tensor, part: int) -> Tensor:
    """Landmarks ``[n, 68, 2]`` in the coordinates of a part."""
    return apply(inverse(squares[:, part]), landmarks)


_SOFTNESS = 0.03
"""Width of the regions' soft edges, in parts."""


def _blob(cells: Tensor, centre: tuple[Tensor, Tensor], half: tuple[Tensor, Tensor], power: float) -> Tensor:
    """A superellipse with a soft edge, ``[n, cells]``; centre and half axes (x, y) are ``[n]``."""
    x = (cells[:, 0] - centre[0][:, None]).abs() / half[0][:, None]
    y = (cells[:, 1] - centre[1][:, None]).abs() / half[1][:, None]
    radius = (x.pow(power) + y.pow(power)).pow(1 / power)
    return ((1 - radius) * half[0][:, None] * (2 / _SOFTNESS) + 1).clamp(0, 1)


def _mouth_region(cells: Tensor, still: Tensor, now: Tensor) -> Tensor:
    """From below the nose to above the chin, wider than the lips; the chin takes the lower edge along."""
    lips = still[:, LIPS]
    left, right = lips[..., 0].amin(1), lips[..., 0].amax(1)
    least = torch.full_like(left, 0.52 / MOUTH_SIDE)
    half_width = torch.maximum((right - left) * 0.65, least)
    top = now[:, 49, 1] + 0.30 * (lips[..., 1].amin(1) - still[:, 49, 1])
    bottom = now[:, 54, 1] - 0.35 * (still[:, 54, 1] - lips[..., 1].amax(1))
    bottom = torch.maximum(bottom, top + 0.1)
    return _blob(cells, ((left + right) / 2, (top + bottom) / 2), (half_width, (bottom - top) / 2), 2.6)


_UPPER_LIDS = ((21, 22, 23), (29, 30, 31))


def _eye_regions(cells: Tensor, still: Tensor, now: Tensor) -> Tensor:
    """Both eyes from half-way to the brow down to the rim below: a brow is never part of it."""
    regions = []
    brows = (BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT)
    for (outer, inner), lids, brow in zip(EYE_CORNERS, _UPPER_LIDS, brows, strict=True):
        middle, width = (now[:, outer] + now[:, inner]) / 2, (now[:, outer] - now[:, inner]).norm(dim=-1)
        grown = width / (still[:, outer] - still[:, inner]).norm(dim=-1).clamp_min(1e-4)
        corners = (still[:, outer, 1] + still[:, inner, 1]) / 2
        lid = still[:, constant(lids, still.device), 1].mean(1)
        room = (lid - still[:, brow, 1].mean(1)).clamp_min(0.05)
        up, low = ((corners - lid).clamp_min(0) + 0.5 * room) * grown, 0.42 * width
        centre = (middle[:, 0], middle[:, 1] + (low - up) / 2)
        regions.append(_blob(cells, centre, (width * 0.74, (up + low) / 2), 2.2))
    return torch.maximum(*regions)
