"""Single traits of a face set by hand (smile, brows, eyes, gaze), told in expression tokens.

A choice of ours beside the paper. The motion codec reads facial values linearly off its expression tokens. So a change
of the tokens along the (regularised) inverse of that reading changes one of them and hardly the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..face.landmarks import LIP_VALUES, VALUE_NAMES
from ..models.motion_codec import MotionCodec

TRAITS: dict[str, tuple[str, str]] = {
    "smile": ("smile", "frown"),
    "brows": ("brow_raise", "brow_lower"),
    "eyes": ("eye_wide", "squint"),
    "gaze_x": ("gaze_x", "gaze_x"),
    "gaze_y": ("gaze_y", "gaze_y"),
}
"""Each trait runs from -1 to 1: the value it raises above 0, and the one it raises below. ``gaze_x`` is positive
towards the picture's right, ``gaze_y`` upwards."""
FULL = 0.6
"""Facial value at a trait of 1. Directions are extrapolated beyond the faces of the training above that."""
RIDGE = 0.02
"""Lengths of readings (per token) below this are not told apart: they would ask for huge changes of the tokens."""
_HELD = ("blink_left", "blink_right", "nose_wrinkle")
"""Values that no trait sets, and that traits leave alone."""


@dataclass(frozen=True)
class TraitAxes:
    """For each trait the change of expression tokens ``[ne, dm]`` that a 1, and that a -1, asks for."""

    raised: dict[str, Tensor]
    lowered: dict[str, Tensor]

    @classmethod
    def of(cls, codec: MotionCodec) -> TraitAxes:
        """Along the codec's own reading."""
        names = [name for pair in TRAITS.values() for name in dict.fromkeys(pair)] + list(_HELD)
        rest = [name for index, name in enumerate(VALUE_NAMES) if index not in LIP_VALUES]
        first = codec.config.motion_codec.head_tokens + codec.config.motion_codec.lip_tokens
        deviation = codec.token_std[first:].float().cpu()
        weight = codec.expression_reading.weight.float().cpu()
        reading = weight[[rest.index(name) for name in names]] * deviation.flatten()
        gram = reading @ reading.T + RIDGE**2 * torch.eye(len(names))
        inverse = torch.linalg.solve(gram, reading)
        # What regularisation takes off a direction's own value is given back.
        own = (inverse * reading).sum(1, keepdim=True)
        unit = dict(zip(names, FULL * (inverse / own).view(-1, *deviation.shape), strict=True))
        lower = {name: unit[low] if low != high else -unit[high] for name, (high, low) in TRAITS.items()}
        return cls({name: unit[high] for name, (high, _) in TRAITS.items()}, lower)

    def shift(self, amounts: Mapping[str, float]) -> Tensor:
        """Change of expression tokens ``[ne, dm]`` for traits in [-1, 1]."""
        total = torch.zeros_like(next(iter(self.raised.values())))
        for name, amount in amounts.items():
            total = total + (amount * self.raised[name] if amount >= 0 else -amount * self.lowered[name])
        return total
