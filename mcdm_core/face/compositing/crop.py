"""Putting generated face crops back into the portrait, with the portrait's own fine detail.

A model of 128 pixels knows nothing of the pores and hairs of a large portrait. :func:`move_surroundings` moves the
full-resolution head by the same landmarks as the model's warped reference. :func:`transfer_detail` adds what the
network changed in the small picture, enlarged: ``warp(portrait) + enlarge(generated - reconstructed(warp(crop)))``.
Both terms of the difference went through the autoencoder: its blur cancels where the network left the warp as it was.
Where it changed much, there is no detail to keep, and the generated frame itself is shown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..crops import CropTransform, resample_crop
from ..landmarks import constant

BORDER_FEATHER = 0.10
"""Width of the soft edge of a pasted crop, as a part of its side."""
SURROUNDINGS = 1.5
"""Side of the square that moves with the head, in face crops."""
GRAIN_LOW, GRAIN_HIGH = 0.004, 0.015
"""Mean change of colour (of 1) below which a change counts as the model's grain, and from which it is shown whole."""
CHANGE_LOW, CHANGE_HIGH = 0.02, 0.05
"""Mean change of colour (of 1) from which the frame itself begins to show, and from which it does alone."""


def feather_mask(size: int, feather: float = BORDER_FEATHER, device: torch.device | None = None) -> Tensor:
    """Mask [1, size, size]: 0 on the crop's edge, rising smoothly to 1 at ``feather`` * size inside.

    >>> feather_mask(8, feather=0.25)[0, 4]
    tensor([0.1562, 0.8438, 1.0000, 1.0000, 1.0000, 1.0000, 0.8438, 0.1562])
    """
    position = (torch.arange(size, device=device) + 0.5) / size
    edge = torch.minimum(position, 1 - position) / max(feather, 1e-6)
    edge = edge.clamp(0, 1)
    ramp = edge * edge * (3 - 2 * edge)
    return (ramp[:, None] * ramp[None, :])[None]


def head_mask(landmarks: Tensor, reference_landmarks: Tensor, size: int, margin: float = 0.22) -> Tensor:
    """Soft mask [f, 1, size, size] of where the head is in a frame or was in the portrait.

    Outside of it the generated background is replaced by the still one. The union with the portrait's own head keeps
    a head that moved away from showing twice.

    Args:
        landmarks: [f, 68, 2] in [0, 1] of the crop.
        reference_landmarks: [68, 2].
        margin: growth of the landmarks' ellipse for hair and ears, in crop widths.
    """
    grid = (torch.arange(size, device=landmarks.device) + 0.5) / size
    y, x = torch.meshgrid(grid, grid, indexing="ij")

    def ellipse(points: Tensor) -> Tensor:
        low, high = points.amin(-2), points.amax(-2)
        center = (low + high) / 2 - constant((0.0, margin * 0.4), points.device)
        radius = (high - low) / 2 + constant((margin, margin * 1.2), points.device)
        center, radius = center[..., None, None, :], radius[..., None, None, :]
        distance = (((torch.stack([x, y], -1) - center) / radius) ** 2).sum(-1).sqrt()
        soft = ((1.15 - distance) / 0.3).clamp(0, 1)
        return soft * soft * (3 - 2 * soft)

    face = slice(0, 64)
    now = ellipse(landmarks[:, face])
    before = ellipse(reference_landmarks[None, face])
    return torch.maximum(now, before)[:, None]


def move_surroundings(
    large: Tensor, landmarks: Tensor, reference_landmarks: Tensor, scale: float = SURROUNDINGS
) -> Tensor:
    """Warp a large picture of the head and its surroundings by a motion of the face crop inside it.

    The flow is the very one that the network saw; it comes to rest outside of the crop, where nothing shows a seam.

    Args:
        large: [3, S, S]; the face crop is its concentric part of side S / ``scale``.
        landmarks: [f, 68, 2] in units of the face crop; reference_landmarks: [68, 2].

    Returns:
        [f, 3, S, S].
    """
    from ..mouth_fill import fill_mouth
    from ..reference_warp import tps_flow, warp

    count, size = landmarks.shape[0], large.shape[-1]

    def outward(points: Tensor) -> Tensor:
        return (points - 0.5) / scale + 0.5

    still = reference_landmarks[None].expand(count, -1, -1)
    flow = tps_flow(landmarks, still, 48, scale) / scale
    # The spline is zero at a few points of the border only; between them it is faded out.
    flow = flow * feather_mask(flow.shape[-1], 0.15, flow.device)
    copies = large[None].expand(count, -1, -1, -1)
    moved = warp(copies, flow.to(large)).reshape(count, 3, size, size)
    signed = fill_mouth(moved * 2 - 1, copies * 2 - 1, outward(landmarks), outward(still), 0.003 / scale)
    return (signed / 2 + 0.5).clamp(0, 1)


def transfer_detail(moved: Tensor, frames: Tensor, warped: Tensor, mask: Tensor) -> Tensor:
    """Give generated frames the portrait's fine detail.

    What the network changed in the small picture is added to the large one. Where it changed next to nothing, the
    change is grain of its sampling and is left out (a soft threshold, as in wavelet denoising). Where it changed much
    (an opening mouth, a closing lid), the warped portrait's detail is that of something else, and the frame itself is
    shown.

    Args:
        moved: the warped portrait at its own resolution, the crop's part of it [f, 3, S, S] in [0, 1].
        frames: generated frames [f, 3, s, s] in [0, 1]; warped: warped ones as the autoencoder shows them, likewise.
        mask: [1 or f, 1, S, S]; 0 where nothing may change.

    Returns:
        [f, 3, S, S] in [0, 1].
    """
    size = (moved.shape[-1],) * 2
    change = frames - warped
    # The mean over a window is that of what is meant: grain of alternating sign cancels in it.
    strength = _mean(_mean(change, 5).abs().mean(1, keepdim=True), 5)
    meant = ((strength - GRAIN_LOW) / (GRAIN_HIGH - GRAIN_LOW)).clamp(0, 1)
    enlarged = F.interpolate(change * meant, size=size, mode="bicubic", align_corners=False)
    # Without the signs: in small parts light and dark change side by side, as in eyes under closing lids.
    much = _mean(change.abs().mean(1, keepdim=True), 3)
    painted = ((much - CHANGE_LOW) / (CHANGE_HIGH - CHANGE_LOW)).clamp(0, 1)
    painted = F.interpolate(painted, size=size, mode="bilinear", align_corners=False)
    alone = F.interpolate(frames, size=size, mode="bicubic", align_corners=False)
    return torch.lerp(moved, torch.lerp(moved + enlarged, alone, painted), mask).clamp(0, 1)


def paste_back(frames: Tensor, portrait: Tensor, transform: CropTransform, mask: Tensor | None = None) -> Tensor:
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
        mask = feather_mask(side, device=frames.device)
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


def add_change(background: Tensor, finished: Tensor, portrait: Tensor) -> Tensor:
    """What finished frames changed of their portrait, added to other frames of it: two faces move in one picture.

    Where either leaves the portrait as it is, the other's pixels stay as they are.

    Args:
        background, finished: ``[f, 3, h, w]`` in [0, 1]; portrait: ``[3, h, w]``.

    >>> portrait = torch.full((3, 2, 2), 0.5)
    >>> other, finished = (portrait[None] + change for change in (0.1, 0.2))
    >>> add_change(other, finished, portrait)[0, 0]
    tensor([[0.8000, 0.8000],
            [0.8000, 0.8000]])
    """
    return (background + (finished - portrait)).clamp(0, 1)


def full_resolution_crop(portrait: Tensor, transform: CropTransform) -> Tensor:
    """The crop [3, S, S] at the portrait's own resolution."""
    return resample_crop(portrait, transform, round(transform.side))


def _mean(x: Tensor, size: int) -> Tensor:
    """Mean over size x size windows; at the edge over the part inside."""
    return F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
