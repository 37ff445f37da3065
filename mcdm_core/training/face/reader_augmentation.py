"""Augmentation of the windows on mouth and eyes: where the first reading would have put them, and what spoils them.

Perspective, stretch, turn, scale and shift move the points along. Covers (masks, hands, glasses, bars) and block
artefacts are added to what ``augmentation.py`` does. All of it runs on the device the windows lie on.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor

from .augmentation import reflect, uniform

_BLOCK = 8


def random_homography(count: int, zoom: float, device: torch.device | str = "cpu") -> Tensor:
    """Maps ``[n, 3, 3]`` from the window that is read to the larger one it is cut from, both in [-1, 1].

    Args:
        zoom: side of the read window over that of the larger one.

    The ranges are wider than the errors of the first reading. Turn goes up to 0.4 rad, scale from 0.75 to 1.35, stretch
    from 0.85 to 1.2. Shift is a sixth of the window, perspective 0.12.
    """

    def drawn(limit: float, *shape: int) -> Tensor:
        return uniform(-limit, limit, count, *shape, device=device) * torch.rand(count, *shape, device=device).sqrt()

    angle, size, stretch = drawn(0.4), drawn(0.3).exp() * zoom, drawn(0.17).exp()
    cos, sin = angle.cos() * size, angle.sin() * size
    linear = torch.stack([torch.stack([cos, -sin * stretch], 1), torch.stack([sin, cos * stretch], 1)], 1)
    shift = drawn(0.33, 2) * zoom
    last = torch.cat([drawn(0.12, 2), torch.ones(count, 1, device=device)], 1)
    return torch.cat([torch.cat([linear, shift[..., None]], 2), last[:, None]], 1)


def plain_homography(count: int, zoom: float, device: torch.device | str = "cpu") -> Tensor:
    """The maps of :func:`random_homography` without any randomness: the middle of the larger window."""
    return torch.diag(torch.tensor([zoom, zoom, 1.0], device=device)).expand(count, 3, 3)


def move_windows(windows: Tensor, points: Tensor, homography: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Read windows ``[n, 3, size, size]`` with their points ``[n, k, 2]`` in [0, 1].

    Args:
        windows: the larger ones ``[n, 3, s, s]``; points: ``[n, k, 2]`` in [0, 1] of them.
        homography: ``[n, 3, 3]``.
    """
    steps = (torch.arange(size, device=windows.device) + 0.5) / size * 2 - 1
    places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2)
    from_place = torch.cat([places, torch.ones_like(places[..., :1])], -1) @ homography.transpose(1, 2)
    grid = (from_place[..., :2] / from_place[..., 2:]).unflatten(1, (size, size))
    moved = functional.grid_sample(windows, reflect(grid), padding_mode="border", align_corners=False)
    inverse = torch.linalg.inv(homography)
    target = points * 2 - 1
    back = torch.cat([target, torch.ones_like(target[..., :1])], -1) @ inverse.transpose(1, 2)
    return moved, (back[..., :2] / back[..., 2:] + 1) / 2


def cover(windows: Tensor, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Cover parts of windows ``[n, 3, s, s]``.

    A third of the covers is a half plane (a mask, a scarf, hair), a third an ellipse (a hand, a glass, a microphone).
    The last third is a band (a strand, a finger, a spectacle frame). They hold plain colour, shading or another
    picture.

    Returns:
        The windows, and where they are covered: ``[n, s, s]`` in [0, 1].
    """
    count, _, size, _ = windows.shape
    device = windows.device
    each = (count, 1, 1)
    steps = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
    centre = uniform(-1, 1, count, 2, device=device)
    x, y = steps[None, None, :] - centre[:, 0, None, None], steps[None, :, None] - centre[:, 1, None, None]
    angle = uniform(-math.pi, math.pi, *each, device=device)
    along, across = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    wide, high = (uniform(0.15, 1.0, *each, device=device) for _ in range(2))
    ellipse = 1 - ((along / wide).square() + (across / high).square()).sqrt()
    band = 0.12 * wide - across.abs()
    kind = torch.rand(each, device=device)
    depth = torch.where(kind < 0.33, across, torch.where(kind < 0.67, ellipse * 0.5, band))
    soft = uniform(4.0, 40.0, *each, device=device)
    area = (depth * soft).clamp(0, 1) * (torch.rand(each, device=device) < share)
    plain = uniform(-1, 1, count, 3, 1, 1, device=device)
    tint = plain * uniform(0.0, 1.0, count, 1, 1, 1, device=device) + uniform(-0.6, 0.6, count, 1, 1, 1, device=device)
    shaded = windows * uniform(0.2, 1.0, count, 1, 1, 1, device=device) + 0.3 * plain.mean(1, keepdim=True)
    other = windows.roll(1, 0).flip(2)
    pick = torch.rand(count, 1, 1, 1, device=device)
    folds = functional.interpolate(0.15 * torch.randn(count, 1, 5, 5, device=device), size=size, mode="bicubic")
    paint = torch.where(pick < 0.5, tint + folds, torch.where(pick < 0.7, shaded, other))
    mask = area[:, None]
    # Shade hides nothing.
    return windows * (1 - mask) + paint * mask, area * ~((pick[:, 0] >= 0.5) & (pick[:, 0] < 0.7))


def covered_points(area: Tensor, points: Tensor) -> Tensor:
    """How far each point ``[n, k, 2]`` in [0, 1] is covered: ``[n, k]`` in [0, 1]."""
    return functional.grid_sample(area[:, None], points[:, :, None] * 2 - 1, align_corners=False)[:, 0, :, 0]


def block_artefacts(pictures: Tensor, share: float = 0.35) -> Tensor:
    """What strong JPEG or video compression leaves of ``[n, 3, s, s]``: 8x8 cosine blocks, coarsely quantised."""
    count = len(pictures)
    device = pictures.device
    k = torch.arange(_BLOCK, device=device, dtype=torch.float32)
    basis = torch.cos(math.pi / _BLOCK * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / _BLOCK)
    basis = torch.cat([basis[:1] * math.sqrt(0.5), basis[1:]])
    blocks = rearrange(pictures, "n c (y h) (x w) -> n c y x h w", h=_BLOCK, w=_BLOCK)
    spectrum = basis @ blocks @ basis.T
    coarse = uniform(0.02, 0.16, count, 1, 1, 1, 1, 1, device=device) * (1 + 0.5 * (k[:, None] + k[None]))
    back = basis.T @ ((spectrum / coarse).round() * coarse) @ basis
    squashed = rearrange(back, "n c y x h w -> n c (y h) (x w)")
    return torch.where(torch.rand(count, 1, 1, 1, device=device) < share, squashed, pictures)
