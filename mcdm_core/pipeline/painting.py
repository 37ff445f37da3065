"""Pictures of a clip, as the denoiser painted them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Painting:
    """Frames [f, 3, s, s] in [0, 1] on the CPU (face crops), and the painted parts uint8 [f, p, 3, k, k] where parts
    are painted (``face/parts.py``)."""

    frames: Tensor
    parts: Tensor | None = None


def to_signed(crop: Tensor) -> Tensor:
    """A crop ``[3, s, s]`` in [0, 1] as ``[1, 3, s, s]`` in [-1, 1]."""
    return (crop * 2 - 1)[None]
