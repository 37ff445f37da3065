"""Stable Diffusion's feed-forward network, under its names of weights (diffusers' ``FeedForward``)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import MCDMError


class _Activation(nn.Module):
    """A linear layer and GELU; ``gated``: GELU of one half of its channels multiplies the other."""

    def __init__(self, dim: int, hidden: int, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.proj = nn.Linear(dim, 2 * hidden if gated else hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)
        if not self.gated:
            return F.gelu(y)
        value, gate = y.chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """``[..., dim]`` to ``[..., dim]`` through ``mult`` times as many channels.

    Args:
        activation: ``"geglu"`` (Stable Diffusion's) or ``"gelu"``.

    Raises:
        MCDMError: for another activation.
    """

    def __init__(self, dim: int, mult: float = 4.0, activation: str = "geglu") -> None:
        super().__init__()
        if activation not in ("geglu", "gelu"):
            raise MCDMError(f"The activation {activation!r} is unknown; choose 'geglu' or 'gelu'.")
        hidden = int(dim * mult)
        # Between the two lies Stable Diffusion's dropout, which does nothing; it counts in the names of weights.
        self.net = nn.ModuleList(
            [_Activation(dim, hidden, gated=activation == "geglu"), nn.Identity(), nn.Linear(hidden, dim)]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))
