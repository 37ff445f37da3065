"""Residual blocks of Stable Diffusion's UNet and their changes of resolution, under its names of weights.

The same as diffusers' ``ResnetBlock2D``, ``Downsample2D`` and ``Upsample2D`` with the settings used here, and held to
them by the tests. Importing those takes as long as importing torch, and 170 MB.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions around the embedding of time and motion (section 3.1).

    Args:
        channels: of the input; out: of the output.
        embedding: width of the embedding.
        groups: of both normalisations.
        scale_shift: the embedding scales and shifts the second normalisation; else it is added before it.
    """

    def __init__(
        self, channels: int, out: int, embedding: int, groups: int, *, scale_shift: bool, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.out_channels, self.scale_shift = out, scale_shift
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, 2 * out if scale_shift else out)
        self.norm2 = nn.GroupNorm(groups, out, eps=eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``x [b, c, h, w]``, ``embedding [b, e]`` -> ``[b, out, h, w]``."""
        y = self.conv1(F.silu(self.norm1(x)))
        told = self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + told)
        y = self.conv2(F.silu(y))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """``[b, c, h, w]`` to ``[b, c, h / 2, w / 2]`` by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """``[b, c, h, w]`` to ``[b, c, 2 h, 2 w]``: every cell four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
