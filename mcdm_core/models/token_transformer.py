"""Pre-norm transformer pieces shared by the motion codec and the present-clip prior."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoidal_embedding(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal features of real positions.

    Args:
        positions: ``[...]``, any real number (a diffusion timestep, a frame index).
        width: number of features, even.

    Returns:
        ``[..., width]``, cosines then sines, in [-1, 1].
    """
    half = width // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=positions.device) / half)
    angle = positions[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with its own layer norm; returns the update, not the sum."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of {num_heads} heads")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        """Args:
            x: ``[b, n, width]``.
            position: added after the norm, broadcastable to ``x``; None for none.

        Returns:
            ``[b, n, width]``.
        """
        batch, length, width = x.shape
        y = self.norm(x)
        if position is not None:
            y = y + position
        q, k, v = self.qkv(y).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).reshape(batch, length, width))


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
