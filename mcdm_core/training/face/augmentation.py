"""Label-true augmentation of face crops, a whole batch at once on the device they lie on.

Turn, scale and shift move the labels along; colour, shade, blur, noise and covered parts leave them. Crops without a
usable face come from the same resampling. Nothing here waits for the device. What differs from picture to picture is
drawn there. The kinds of blur take fixed parts of the batch, which the caller has shuffled.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..frame_store import split_count

_BLUR_SHARES = (0.12, 0.12, 0.11, 0.15, 0.15, 0.35)
"""Parts of a batch that are shrunk 2, 3 and 4 times, averaged, sharpened, and left as they are."""


class MovedFaces(NamedTuple):
    """Pictures ``[n, 3, s, s]`` with landmarks ``[n, 68, 2]`` and pose ``[n, 6]`` that went along."""

    pictures: Tensor
    landmarks: Tensor
    pose: Tensor


def uniform(low: float, high: float, *shape: int, device: torch.device | str) -> Tensor:
    """Uniform random numbers of a range."""
    return low + (high - low) * torch.rand(*shape, device=device)


def random_affine(
    count: int, roll: float = 0.45, scale: float = 0.35, shift: float = 0.16, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Random similarities as ``[n, 2, 3]`` matrices (output to input, in [-1, 1]), and their ``[n, 2]`` roll and scale.

    ``roll`` in radians and ``scale`` in log units are the largest values; small ones are likelier.
    """
    angle = uniform(-roll, roll, count, device=device) * torch.rand(count, device=device).sqrt()
    size = uniform(-scale, scale, count, device=device).exp()
    offset = uniform(-2 * shift, 2 * shift, count, 2, device=device) * torch.rand(count, 1, device=device)
    cos, sin = angle.cos() / size, angle.sin() / size
    matrix = torch.stack([torch.stack([cos, -sin, offset[:, 0]], 1), torch.stack([sin, cos, offset[:, 1]], 1)], 1)
    return matrix, torch.stack([angle, size.log()], 1)


def random_absence(count: int, share: float = 0.12, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Which pictures are to show no usable face: presence ``[n]`` (0 or 1), and ``[n, 2, 3]`` matrices.

    The matrices lead half of the absent ones far aside and make the others far too large or small; present ones stay.
    """
    absent = torch.rand(count, 1, device=device) < share
    far = torch.rand(count, 1, device=device) < 0.5
    matrix, _ = random_affine(count, roll=math.pi, scale=0.5, shift=0.3, device=device)
    enlarge = torch.where(torch.rand(count, 1, device=device) < 0.5, 0.25, 3.5)
    turn = matrix[:, :, :2] * torch.where(far, 1.0, enlarge)[:, :, None]
    direction = uniform(0.0, 2 * math.pi, count, 1, device=device)
    away = torch.cat([direction.cos(), direction.sin()], 1) * uniform(1.1, 1.9, count, 1, device=device)
    moved = torch.cat([turn, torch.where(far, away, matrix[:, :, 2])[:, :, None]], 2)
    identity = torch.eye(2, 3, device=device).expand(count, 2, 3)
    return 1.0 - absent[:, 0].float(), torch.where(absent[:, :, None], moved, identity)


def move_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Where points ``[n, k, 2]`` in [0, 1] of the input lie in the output of an affine ``[n, 2, 3]``."""
    x, y = (points * 2 - 1 - matrix[:, None, :, 2]).unbind(-1)
    a, b, c, d = (matrix[:, row, column, None] for row in (0, 1) for column in (0, 1))
    determinant = a * d - b * c
    return (torch.stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant], -1) + 1) / 2


def reflect(places: Tensor) -> Tensor:
    """Places beyond [-1, 1] mirrored at these edges, as often as it takes."""
    return 1 - (torch.remainder(places + 1, 4) - 2).abs()


def move_faces(
    pictures: Tensor, landmarks: Tensor, pose: Tensor, matrix: Tensor, turned: Tensor, beyond: Tensor | None = None
) -> MovedFaces:
    """Apply similarities of :func:`random_affine`; half of the pictures go on beyond their edges, half are reflected.

    Args:
        pictures: ``[n, 3, s, s]``; landmarks: ``[n, 68, 2]``; pose: ``[n, 6]``.
        matrix, turned: of :func:`random_affine`.
        beyond: matrices of :func:`random_absence`, applied to the moved pictures (in the same resampling).
    """
    count, size = pictures.shape[0], list(pictures.shape)
    identity = torch.eye(2, 3, device=pictures.device).expand(count, 2, 3)
    x, y = reflect(functional.affine_grid(identity if beyond is None else beyond, size, align_corners=False)).unbind(-1)
    row = matrix[:, :, :, None, None]
    grid = torch.stack([row[:, k, 0] * x + row[:, k, 1] * y + row[:, k, 2] for k in (0, 1)], -1)
    mirrored = torch.rand(count, 1, 1, 1, device=pictures.device) < 0.5
    grid = torch.where(mirrored, reflect(grid), grid)
    moved = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    centre = move_points(pose[:, None, 3:5] + 0.5, matrix)[:, 0] - 0.5
    angles = torch.cat([pose[:, :2], pose[:, 2:3] - turned[:, :1]], 1)
    return MovedFaces(
        moved, move_points(landmarks, matrix), torch.cat([angles, centre, pose[:, 5:] + turned[:, 1:]], 1)
    )


def disturb(pictures: Tensor) -> Tensor:
    """Hide parts and :func:`spoil`; ``[n, 3, s, s]`` about in [-1, 1], labels unchanged."""
    return spoil(hide(pictures))


def spoil(pictures: Tensor) -> Tensor:
    """Make grey, recolour, shade, blur, sharpen, add noise; ``[n, 3, s, s]`` about in [-1, 1], labels unchanged."""
    count, _, size, _ = pictures.shape
    device = pictures.device
    each = (count, 1, 1, 1)
    grey = torch.rand(each, device=device) < 0.2
    x = torch.where(grey, pictures.mean(1, keepdim=True), pictures)
    contrast = uniform(0.6, 1.4, *each, device=device) * (1 + 0.2 * torch.randn(count, 3, 1, 1, device=device))
    light = torch.randn(count, 1, 3, 3, device=device) * torch.rand(each, device=device)
    light = functional.interpolate(light, size=size, mode="bilinear", align_corners=False)
    brightness = 0.22 * torch.randn(each, device=device)
    x = (x * contrast + brightness) * (1 + 0.35 * light) + 0.2 * light
    x = _blur_parts(x)
    x = x + uniform(0.0, 0.12, *each, device=device) * torch.randn_like(x)
    return x.clamp(-1.2, 1.2)


def _blur_parts(pictures: Tensor) -> Tensor:
    """Shrink, average, sharpen or leave consecutive parts of a batch (:data:`_BLUR_SHARES`)."""
    size = pictures.shape[-1]
    parts = list(pictures.split(split_count(len(pictures), _BLUR_SHARES)))
    for k, factor in enumerate((2, 3, 4)):
        if len(parts[k]):
            small = functional.interpolate(parts[k], size=size // factor, mode="area")
            parts[k] = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
    if len(parts[3]):
        parts[3] = functional.avg_pool2d(parts[3], 3, 1, 1)
    if len(parts[4]):
        parts[4] = 2 * parts[4] - functional.avg_pool2d(parts[4], 3, 1, 1)
    return torch.cat(parts)


def hide(pictures: Tensor) -> Tensor:
    """Cover a random rectangle of 60 % of the pictures: shade it, fill it, or lay a part of another picture there."""
    count, _, size, _ = pictures.shape
    device = pictures.device
    extent = uniform(size // 12, size // 3, count, 2, device=device).floor()
    corner = (torch.rand(count, 2, device=device) * (size - extent)).floor()
    steps = torch.arange(size, device=device)
    inside = (steps >= corner[:, :, None]) & (steps < (corner + extent)[:, :, None])
    kind = torch.rand(count, 1, 1, 1, device=device)
    area = inside[:, 0, None, None, :] & inside[:, 1, None, :, None] & (kind < 0.6)
    shaded = pictures * uniform(0.3, 1.1, count, 1, 1, 1, device=device)
    shaded = shaded + 0.2 * torch.randn(count, 1, 1, 1, device=device)
    colour = 0.5 * torch.randn(count, 3, 1, 1, device=device)
    cover = torch.where(kind < 0.3, shaded, torch.where(kind < 0.45, colour, pictures.roll(1, 0).flip(2)))
    return torch.where(area, cover, pictures)
