"""The diffusion timestep as the UNet is told it, under Stable Diffusion's names of weights (diffusers'
``get_timestep_embedding`` and ``TimestepEmbedding``)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_waves(timesteps: Tensor, dim: int) -> Tensor:
    """Cosines and sines of timesteps ``[b]``, which may be fractional: ``[b, dim]`` float32.

    >>> timestep_waves(torch.zeros(1), 4).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    half = dim // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


class TimestepEmbedding(nn.Module):
    """Waves ``[b, channels]`` to the embedding ``[b, dim]``."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(channels, dim), nn.Linear(dim, dim)

    def forward(self, waves: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(waves)))
