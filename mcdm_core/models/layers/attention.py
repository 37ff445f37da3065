"""Attention of every model here: over tokens, over a context, and FAVOR+ in place of the softmax."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import MCDMError
from .once import Kept, once
from .zero_module import zero_module


def random_features(num_features: int, dim: int, seed: int = 0) -> Tensor:
    """Orthogonal Gaussian directions ``[num_features, dim]`` of FAVOR+ (Choromanski et al., 2021, section 2.4).

    >>> random_features(6, 4).shape
    torch.Size([6, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(math.ceil(num_features / dim)):
        q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, device="cpu"))
        norms = torch.randn(dim, dim, generator=generator, device="cpu").norm(dim=1, keepdim=True)
        blocks.append(q.T * norms)
    return torch.cat(blocks)[:num_features]


def fast_attention(query: Tensor, key: Tensor, value: Tensor, features: Tensor) -> Tensor:
    """FAVOR+: softmax attention through positive random features, linear in the number of keys.

    phi(x) = exp(w x - |x|^2 / 2) over the directions w, with x scaled by d^(-1/4), so that
    E[phi(q) phi(k)] = exp(q k / sqrt(d)).

    Args:
        query: ``[..., l, d]``; key, value: ``[..., s, d]``; features: ``[r, d]``.

    Returns:
        ``[..., l, d]``.

    >>> query, key, value = (0.5 * torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))).unbind(0)
    >>> exact = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    >>> bool((fast_attention(query, key, value, random_features(4096, 4)) - exact).abs().max() < 0.05)
    True
    """
    scale = query.shape[-1] ** -0.25
    features = features.to(query)

    def phi(x: Tensor, over: tuple[int, ...]) -> Tensor:
        x = x * scale
        logits = x @ features.T - x.square().sum(-1, keepdim=True) / 2
        # A common factor cancels between numerator and denominator: per query, and over all keys.
        return (logits - logits.amax(over, keepdim=True)).exp() + 1e-6

    q, k = phi(query, (-1,)), phi(key, (-2, -1))
    numerator = q @ (k.transpose(-2, -1) @ value)
    return numerator / (q @ k.sum(-2, keepdim=True).transpose(-2, -1))


class CrossAttention(nn.Module):
    """Multi-head attention with Stable Diffusion's parameter names; self-attention when no context is given."""

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, *, zero: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise MCDMError(f"Width {dim} cannot be split into {heads} heads; choose a divisor as num_heads.")
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        out = nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([zero_module(out) if zero else out])

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        features: Tensor | None = None,
        places: tuple[Tensor, Tensor] | None = None,
        kept: Kept | None = None,
    ) -> Tensor:
        """``x [b, l, c]``, ``context [b, s, d]`` -> ``[b, l, c]``; with ``features``, by FAVOR+.

        ``places``: codes ``[l, c]`` and ``[s, c]`` of where queries and keys are, added to them. ``kept`` holds keys
        and values of a context that stays the same (``once.py``).
        """
        context = x if context is None else context
        query = self.to_q(x)

        def keys_and_values() -> tuple[Tensor, Tensor]:
            key = self.to_k(context)
            return key if places is None else key + places[1].to(key), self.to_v(context)

        if places is not None:
            query = query + places[0].to(query)
        given = (query, *once(kept, self, keys_and_values))
        q, k, v = (rearrange(y, "b l (heads d) -> b heads l d", heads=self.heads) for y in given)
        y = F.scaled_dot_product_attention(q, k, v) if features is None else fast_attention(q, k, v, features)
        return self.to_out[0](rearrange(y, "b heads l d -> b l (heads d)"))


class SelfAttention(nn.Module):
    """Multi-head self-attention with its own layer norm; returns the update, not the sum."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise MCDMError(f"Width {width} cannot be split into {num_heads} heads; choose a divisor as num_heads.")
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
        y = self.norm(x)
        if position is not None:
            y = y + position
        q, k, v = rearrange(self.qkv(y), "b n (parts heads d) -> parts b heads n d", parts=3, heads=self.num_heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.out(rearrange(attended, "b heads n d -> b n (heads d)"))
