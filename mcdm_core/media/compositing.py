"""Putting generated face crops back into the portrait, with the portrait's own fine detail.

A model of 128 pixels knows nothing of the pores and hairs of a large portrait. With landmarks of the reference and of a
frame, :func:`transfer_detail` moves the full-resolution crop by the same thin-plate spline the model used for its small
one, and adds what the network changed in the small one, enlarged:
``detail = warp(large) + enlarge(generated - warp(small))``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .portrait import CropTransform, resample_crop

BORDER_FEATHER = 0.10
"""Width of the soft edge of a pasted crop, as a part of its side."""


def feather_mask(size: int, feather: float = BORDER_FEATHER) -> torch.Tensor:
    """Mask [1, size, size]: 0 on the crop's edge, rising smoothly to 1 at ``feather`` * size inside."""
    position = (torch.arange(size) + 0.5) / size
    edge = torch.minimum(position, 1 - position) / max(feather, 1e-6)
    edge = edge.clamp(0, 1)
    ramp = edge * edge * (3 - 2 * edge)
    return (ramp[:, None] * ramp[None, :])[None]


def head_mask(
    landmarks: torch.Tensor, reference_landmarks: torch.Tensor, size: int, margin: float = 0.22
) -> torch.Tensor:
    """Soft mask [f, 1, size, size] of where the head is in a frame or was in the portrait.

    Outside of it the generated background is replaced by the still one. The union with the portrait's own head keeps
    a head that moved away from showing twice.

    Args:
        landmarks: [f, 68, 2] in [0, 1] of the crop.
        reference_landmarks: [68, 2].
        margin: growth of the landmarks' ellipse for hair and ears, in crop widths.
    """
    grid = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(grid, grid, indexing="ij")

    def ellipse(points: torch.Tensor) -> torch.Tensor:
        low, high = points.amin(-2), points.amax(-2)
        center = (low + high) / 2 - points.new_tensor([0.0, margin * 0.4])
        radius = (high - low) / 2 + points.new_tensor([margin, margin * 1.2])
        center, radius = center[..., None, None, :], radius[..., None, None, :]
        distance = (((torch.stack([x, y], -1) - center) / radius) ** 2).sum(-1).sqrt()
        soft = ((1.15 - distance) / 0.3).clamp(0, 1)
        return soft * soft * (3 - 2 * soft)

    face = slice(0, 64)
    now = ellipse(landmarks[:, face])
    before = ellipse(reference_landmarks[None, face])
    return torch.maximum(now, before)[:, None]


def transfer_detail(
    frames: torch.Tensor, warped_small: torch.Tensor, large: torch.Tensor, flow: torch.Tensor
) -> torch.Tensor:
    """Give generated frames the portrait's fine detail.

    Args:
        frames: generated crops [f, 3, s, s] in [0, 1].
        warped_small: the small reference crop warped by ``flow``, [f, 3, s, s] in [0, 1].
        large: the reference crop at the portrait's resolution [3, S, S] in [0, 1].
        flow: backward displacement [f, 2, k, k] in crop widths (``reference_warp.tps_flow``).

    Returns:
        [f, 3, S, S] in [0, 1].
    """
    from ..models.reference_warp import warp

    size = large.shape[-1]
    moved = warp(large[None].expand(frames.shape[0], -1, -1, -1), flow.to(large))
    change = F.interpolate(frames - warped_small, size=(size, size), mode="bicubic", align_corners=False)
    return (moved + change).clamp(0, 1)


def paste_back(
    frames: torch.Tensor, portrait: torch.Tensor, transform: CropTransform, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Lay face crops over the still portrait.

    Args:
        frames: [f, 3, s, s] in [0, 1]; enlarged bicubically to the crop's size in the portrait.
        portrait: [3, h, w] in [0, 1].
        transform: where the crop lies.
        mask: [1 or f, 1, k, k] or [1, k, k] in [0, 1]; 1 shows the frame. ``None``: a feathered square.

    Returns:
        [f, 3, h, w] in [0, 1].
    """
    height, width = portrait.shape[-2:]
    left, top, side = round(transform.left), round(transform.top), round(transform.side)
    if mask is None:
        mask = feather_mask(side)
    if mask.ndim == 3:
        mask = mask[None]
    if frames.shape[-1] != side:
        frames = F.interpolate(frames, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    if mask.shape[-1] != side:
        mask = F.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    inner = (..., slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    out = portrait[None].repeat(frames.shape[0], 1, 1, 1)
    still = out[..., y0:y1, x0:x1]
    out[..., y0:y1, x0:x1] = still + mask[inner] * (frames[inner] - still)
    return out


def full_resolution_crop(portrait: torch.Tensor, transform: CropTransform) -> torch.Tensor:
    """The crop [3, S, S] at the portrait's own resolution."""
    return resample_crop(portrait, transform, round(transform.side))
