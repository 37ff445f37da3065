"""How far the warped reference is from the truth, place by place: the prior's variance V of ``prior_residual``.

The warp is far more wrong at lips and where it moves much than on a still background. With one V for all, the noise
that sampling starts from comes back as grain where nothing is unsure. V is therefore a weighted sum of five features
read off the UNet's guide; the weights are ``diffusion.prior_variance_terms``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

VARIANCE_FLOOR = 0.02


def variance_features(guide: Tensor, latent_channels: int) -> Tensor:
    """What the warp's error depends on, ``[b, f, 5, h, w]``: 1, drawn lips and lids, texture, texture times movement.

    Texture is the squared difference of the warped latents from their 3x3 mean, a mean over channels. Movement is the
    length of the flow (crop widths times ``FLOW_SCALE``, at most 1). A flat wall is right wherever it is taken from, a
    lock of hair only if the flow is.
    """
    warped, flow = guide[:, :, :latent_channels].flatten(0, 1), guide[:, :, latent_channels : latent_channels + 2]
    smooth = functional.avg_pool2d(functional.pad(warped, (1, 1, 1, 1), mode="replicate"), 3, 1)
    texture = (warped - smooth).square().mean(1, keepdim=True).unflatten(0, guide.shape[:2])
    moved = flow.square().sum(2, keepdim=True).sqrt().clamp(max=1.0)
    drawn = guide[:, :, latent_channels + 2 :].unflatten(2, (3, 4)).amax(3)[:, :, :2]
    return torch.cat([torch.ones_like(texture), drawn, texture, texture * moved], 2)


def variance_map(guide: Tensor, latent_channels: int, terms: tuple[float, ...]) -> Tensor:
    """Variance of the true latents around the warped ones, ``[b, f, 1, h, w]``, at least ``VARIANCE_FLOOR``."""
    weights = torch.tensor(terms, device=guide.device, dtype=guide.dtype).view(1, 1, -1, 1, 1)
    return (variance_features(guide, latent_channels) * weights).sum(2, keepdim=True).clamp(min=VARIANCE_FLOOR)
