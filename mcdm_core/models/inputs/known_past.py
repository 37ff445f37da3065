"""Where motion goes of which the sound says nothing: the linear guess that the present-clip prior begins from.

A choice of ours beside the paper, like the prior's other linear paths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TREND = 4
"""Frames over which the past's trend is taken."""


class KnownPast(nn.Module):
    """Where motion goes of which the sound says nothing: linear in the last known frame, its trend and the reference.

    A face keeps its place and its expression, goes on a little as it was moving, and comes back to where the portrait
    shows it. The three weights differ by frame of the clip and by feature; they are fitted (``fit_linear_paths``).
    """

    def __init__(self, frames: int, tokens: int, features: int) -> None:
        super().__init__()
        self.last, self.trend, self.reference = (nn.Parameter(torch.zeros(frames, tokens, features)) for _ in range(3))

    def forward(self, context: Tensor, reference: Tensor, frames: int) -> Tensor:
        """``context [b, c, nq, dm]``, ``reference [b, nq, dm]`` to a guess ``[b, frames, nq, dm]``."""
        last, trend = past_and_trend(context)
        rows = torch.arange(frames, device=context.device).clamp_max(len(self.last) - 1)
        return self.last[rows] * last + self.trend[rows] * trend + self.reference[rows] * reference[:, None]


def past_and_trend(context: Tensor) -> tuple[Tensor, Tensor]:
    """The last frame of ``[b, c, nq, dm]`` and how far it has come in :data:`TREND` frames, both ``[b, 1, nq, dm]``.

    >>> last, trend = past_and_trend(torch.arange(4.0).view(1, 4, 1, 1))
    >>> float(last), float(trend)
    (3.0, 3.0)
    """
    last = context[:, -1:]
    return last, last - context[:, max(-context.shape[1], -1 - TREND)][:, None]
