"""Pre-norm transformer pieces shared by the motion codec and the present-clip prior."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SelfAttention


def sinusoidal_embedding(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal features of real positions.

    Args:
        positions: ``[...]``, any real number (a diffusion timestep, a frame index).
        width: number of features, even.

    Returns:
        ``[..., width]``, cosines then sines, in [-1, 1].

    >>> sinusoidal_embedding(torch.zeros(3), 4)
    tensor([[1., 1., 0., 0.],
            [1., 1., 0., 0.],
            [1., 1., 0., 0.]])
    """
    half = width // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=positions.device) / half)
    angle = positions[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class FeedForward(nn.Module):
    """Layer norm, linear, GELU, linear; returns the update, not the sum. ``[..., width] -> [..., width]``."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(F.gelu(self.inner(self.norm(x)), approximate="tanh"))


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward with residuals. ``[b, n, width] -> [b, n, width]``."""

    def __init__(self, width: int, num_heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.attention = SelfAttention(width, num_heads)
        self.feed_forward = FeedForward(width, ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.feed_forward(x)
