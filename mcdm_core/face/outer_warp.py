"""What surrounds mouth and eyes: the portrait warped by the face's own points alone.

A thin-plate spline through brows, nose, cheeks, jaw, neck and the eyes' corners moves the portrait with the head and
the chin (method.md, section 8). Lips and lids move nothing here: their shape is for the denoiser to paint, and a warp
that knew it would give it away. Brows do not follow lids for the same reason.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .landmarks import constant
from .parts import apply, cell_centres

OUTER_POINTS = (20, 24, 28, 32, *range(36, 68))
_FRAME = tuple(
    (x, y)
    for x in (-0.25, 0.125, 0.5, 0.875, 1.25)
    for y in (-0.25, 0.125, 0.5, 0.875, 1.25)
    if x in (-0.25, 1.25) or y in (-0.25, 1.25)
)
"""Points at rest, on a frame a quarter of the crop outside of it: hair and neck near the border may still move."""
_SMOOTHING = tuple(1e-3 if point < 52 else 1e-2 for point in OUTER_POINTS) + (1e-3,) * len(_FRAME)
"""Cheeks, jaw, temples and neck may give way: where a turned head hides them, exact points would fold the picture."""
_GRID = 24


def spline_lookup(reference: Tensor, landmarks: Tensor, queries: Tensor) -> Tensor:
    """Where in the portrait the points of a frame are found, by a smoothed thin-plate spline.

    Args:
        reference: landmarks of the portraits ``[n, 68, 2]``; landmarks: of the frames, likewise.
        queries: points of the frames ``[n, q, 2]``, in crop units like the landmarks.

    Returns:
        ``[n, q, 2]`` in crop units of the portraits.
    """
    number, device = len(landmarks), landmarks.device
    points = constant(OUTER_POINTS, device)
    frame = constant(_FRAME, device).expand(number, -1, -1)
    source = torch.cat([landmarks[:, points].float(), frame], 1)
    moved = torch.cat([reference[:, points].float(), frame], 1) - source
    count = source.shape[1]
    affine = torch.cat([torch.ones_like(source[..., :1]), source], -1)
    system = source.new_zeros(number, count + 3, count + 3)
    system[:, :count, :count] = _kernel(source, source) + torch.diag(constant(_SMOOTHING, device))
    system[:, :count, count:] = affine
    system[:, count:, :count] = affine.mT
    # Unchecked: the smoothing keeps it solvable, and the host would wait for a GPU's answer.
    weights = torch.linalg.solve_ex(system, F.pad(moved, (0, 0, 0, 3)))[0]

    def found(asked: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        basis = torch.cat([_kernel(asked, points), torch.ones_like(asked[..., :1]), asked], -1)
        return asked + basis @ weights

    # On a CPU frame by frame, four times as fast: what a frame needs stays in the cache.
    at_once = 1 if device.type == "cpu" else number
    some = zip(queries.split(at_once), source.split(at_once), weights.split(at_once), strict=True)
    # Large weights cancel here: a matrix product in half precision would be noise.
    with torch.autocast(device.type, enabled=False):
        return torch.cat([found(*frames) for frames in some])


def outer_parts(portraits: Tensor, reference: Tensor, landmarks: Tensor, squares: Tensor, size: int) -> Tensor:
    """The warped portrait as the parts of a frame show it, sampled once from the portrait itself.

    Args:
        portraits: ``[b, 3, h, w]``, each of n / b frames that follow each other; reference: their landmarks for every
            frame ``[n, 68, 2]``.
        landmarks: of the frames ``[n, 68, 2]``; squares: parts of the frames ``[n, p, 2, 3]``.

    Returns:
        ``[n, p, 3, size, size]``.
    """
    number, parts = squares.shape[:2]
    cells = cell_centres(_GRID, landmarks.device).expand(number, parts, -1, -1)
    found = spline_lookup(reference, landmarks, apply(squares, cells).flatten(1, 2))
    found = rearrange(found, "n (p h w) xy -> (n p) xy h w", p=parts, h=_GRID).contiguous()
    found = F.interpolate(found, size=(size, size), mode="bilinear", align_corners=False)
    # The parts of all its frames are sampled from a portrait as one tall picture, which needs no copies of it.
    grid = rearrange(found, "(b n) xy h w -> b (n h) w xy", b=len(portraits)) * 2 - 1
    seen = F.grid_sample(portraits.float(), grid, padding_mode="border", align_corners=False)
    return rearrange(seen, "b c (f p h) w -> (b f) p c h w", p=parts, h=size).to(portraits.dtype)


def outer_flow(reference: Tensor, landmarks: Tensor, size: int, extent: float = 1.0) -> Tensor:
    """The warp as a backward displacement over a square concentric with the crop.

    Args:
        reference: ``[n, 68, 2]``; landmarks: of the frames, likewise.
        size: of the flow in cells; extent: side of the square in crop widths.

    Returns:
        ``[n, 2, size, size]`` (x, y) in crop widths: the frame at p shows the portrait at p + flow(p).
    """
    cells = (cell_centres(size, landmarks.device) - 0.5) * extent + 0.5
    queries = cells.expand(len(landmarks), -1, -1)
    flow = spline_lookup(reference, landmarks, queries) - queries
    return flow.mT.reshape(len(landmarks), 2, size, size)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The thin-plate kernel r^2 ln r^2 between points ``[n, i, 2]`` and ``[n, j, 2]``."""
    across, down = (a[:, :, None, axis] - b[:, None, :, axis] for axis in (0, 1))
    square = across.square().add_(down.square())
    return (square + 1e-6).log_().mul_(square)
