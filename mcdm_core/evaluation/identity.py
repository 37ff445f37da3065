"""Does the person stay the same? Frames are warped back onto the portrait's pose and compared with it.

With the head's motion undone by the thin-plate spline, what differs is what the model changed of the person. Drift
shows as a difference that grows along the video; no outside face recogniser is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.landmarks import FACE, LIPS
from ..face.reference_warp import tps_flow, warp

_POINTS = slice(0, FACE.stop)
"""Points that undo the motion: a plain spline through the face. With the neck it would be the model's own warp."""


@dataclass(frozen=True)
class IdentityReport:
    """SSIM and colour difference of the face against the portrait, at the beginning and the end of the video."""

    ssim_start: float
    ssim_end: float
    colour_start: float
    colour_end: float


def ssim_map(a: Tensor, b: Tensor, sigma: float = 1.5) -> Tensor:
    """Structural similarity of pictures [n, c, h, w] in [0, 1] per pixel (Wang et al., 2004), [n, 1, h, w]."""
    radius = round(3.5 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=a.dtype, device=a.device)
    window = torch.exp(-(x**2) / (2 * sigma**2))
    window = window / window.sum()
    channels = a.shape[1]
    rows, columns = window.view(1, 1, -1, 1), window.view(1, 1, 1, -1)

    def blur(y: Tensor) -> Tensor:
        y = F.pad(y, (radius,) * 4, mode="reflect")
        y = F.conv2d(y, rows.expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(y, columns.expand(channels, 1, 1, -1), groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    cov = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return score.mean(1, keepdim=True)


def rigid_face_mask(landmarks: Tensor, size: int) -> Tensor:
    """Soft mask [1, 1, size, size] of brows to cheeks, the mouth left out: ``landmarks`` [68, 2] in [0, 1]."""
    cells = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(cells, cells, indexing="ij")

    def ellipse(points: Tensor, grow: float) -> Tensor:
        low, high = points.amin(0), points.amax(0)
        center, radius = (low + high) / 2, (high - low) / 2 * grow
        return ((((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2) < 1).float()

    return (ellipse(landmarks[FACE], 0.95) * (1 - ellipse(landmarks[LIPS], 1.4)))[None, None]


@torch.no_grad()
def compare_identity(
    portrait: Tensor, reference_landmarks: Tensor, frames: Tensor, landmarks: Tensor
) -> IdentityReport:
    """Compare frames with the portrait, the motion undone.

    Args:
        portrait: the reference crop [3, s, s] in [0, 1]; reference_landmarks: [68, 2] in it.
        frames: face crops [n, 3, s, s]; landmarks: read in them [n, 68, 2].

    Returns:
        Means over the first and the last fifth of the frames.
    """
    size, count = portrait.shape[-1], len(frames)
    still = reference_landmarks[None].expand(count, -1, -1)
    aligned = warp(frames, tps_flow(still[:, _POINTS], landmarks[:, _POINTS]))
    target = portrait[None].expand(count, -1, -1, -1)
    mask = rigid_face_mask(reference_landmarks, size)
    weight = mask.sum()
    ssim = (ssim_map(aligned, target) * mask).sum((1, 2, 3)) / weight
    colour = (((aligned - target) * mask).sum((2, 3)) / weight).abs().mean(1)
    part = max(1, count // 5)
    first, last = slice(0, part), slice(count - part, count)
    return IdentityReport(
        float(ssim[first].mean()), float(ssim[last].mean()), float(colour[first].mean()), float(colour[last].mean())
    )
