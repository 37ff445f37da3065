"""Motion tokens: the three streams that the codec writes, the prior predicts and the UNet attends to (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import MCDMConfig
from ..errors import MCDMError

STREAMS = ("head", "lip", "expression")
"""Names of the streams, in the order in which their tokens stand."""
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt")
"""Names of the expressions the codec has mean tokens of."""


@dataclass(frozen=True)
class MotionTokens:
    """Motion of some frames: ``head [..., nh, dm]``, ``lip [..., nl, dm]``, ``expression [..., ne, dm]``.

    >>> tokens = MotionTokens(torch.zeros(5, 2, 8), torch.zeros(5, 1, 8), torch.zeros(5, 3, 8))
    >>> tokens.cat().shape
    torch.Size([5, 6, 8])
    >>> MotionTokens.join([tokens, tokens]).lip.shape
    torch.Size([10, 1, 8])
    """

    head: Tensor
    lip: Tensor
    expression: Tensor

    def streams(self) -> dict[str, Tensor]:
        """The streams by name."""
        return {name: getattr(self, name) for name in STREAMS}

    def cat(self) -> Tensor:
        """``[..., nh + nl + ne, dm]`` in the order of :data:`STREAMS`."""
        return torch.cat([self.head, self.lip, self.expression], dim=-2)

    @classmethod
    def split(cls, tokens: Tensor, config: MCDMConfig) -> MotionTokens:
        """Undo :meth:`cat`: ``[..., nh + nl + ne, dm]`` to the three streams.

        Raises:
            MCDMError: for another number of tokens.
        """
        codec = config.motion_codec
        sizes = [codec.head_tokens, codec.lip_tokens, codec.expression_tokens]
        if tokens.shape[-2] != sum(sizes):
            raise MCDMError(f"{sum(sizes)} motion tokens a frame were expected, {tokens.shape[-2]} were given.")
        return cls(*tokens.split(sizes, dim=-2))

    @classmethod
    def join(cls, parts: Sequence[MotionTokens]) -> MotionTokens:
        """Parts one after the other: streams ``[n, ...]`` and ``[m, ...]`` to ``[n + m, ...]``."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in STREAMS))

    def map(self, function: Callable[[Tensor], Tensor]) -> MotionTokens:
        """Apply ``function(Tensor) -> Tensor`` to each of the three streams."""
        return MotionTokens(function(self.head), function(self.lip), function(self.expression))
