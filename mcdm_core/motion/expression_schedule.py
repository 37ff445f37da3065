"""Expressions that change over time: a line such as ``0 neutral, 3.5 happy 0.8, 6 neutral`` applied to a motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import MCDMError
from ..models.motion_codec import EXPRESSIONS, MotionCodec
from ..models.motion_tokens import MotionTokens
from .motion import Motion

FADE = 0.5
"""Seconds in which one expression goes over into the next."""
KEPT = 0.5
"""Share of the motion's own changes (blinks, brows) that a full expression keeps."""
STRONGEST = 1.5


@dataclass(frozen=True)
class ExpressionKey:
    """From ``seconds`` on the face has this expression; ``strength`` 0 is the face as the voice makes it."""

    seconds: float
    name: str
    strength: float = 1.0


def parse_schedule(text: str) -> list[ExpressionKey]:
    """Keys in order of time; none for an empty text.

    >>> parse_schedule("3.5 happy 0.8, 0 neutral")
    [ExpressionKey(seconds=0.0, name='neutral', strength=0.0), ExpressionKey(seconds=3.5, name='happy', strength=0.8)]

    A text of one expression alone, without a time, holds from the beginning: ``happy 0.8``.

    Raises:
        MCDMError: with the part that cannot be read.
    """
    keys = [_parse_key(part) for part in text.replace("\n", ",").replace(";", ",").split(",") if part.strip()]
    return sorted(keys, key=lambda key: key.seconds)


def _parse_key(part: str) -> ExpressionKey:
    words = part.split()
    if words[0].lower() in EXPRESSIONS:
        words = ["0", *words]
    seconds, name, strength = 0.0, "", 0.0
    try:
        seconds, name, strength = float(words[0]), words[1].lower(), float(words[2]) if len(words) > 2 else 1.0
        good = len(words) <= 3 and name in EXPRESSIONS and 0 <= seconds < math.inf and 0 <= strength <= STRONGEST
    except (ValueError, IndexError):
        good = False
    if not good:
        raise MCDMError(
            f"The expression schedule has {part.strip()!r}; expected seconds, an expression and a strength from 0 to "
            f"{STRONGEST:g}, as in '3.5 happy 0.8'. Expressions: {', '.join(EXPRESSIONS)}."
        )
    return ExpressionKey(seconds, name, 0.0 if name == "neutral" else strength)


def schedule_weights(keys: Sequence[ExpressionKey], frames: int, fps: float) -> torch.Tensor:
    """How far each key holds at each frame: [frames, keys]; at most 1 together, 0 before the first key.

    A key begins at its time and is reached ``FADE`` seconds later, while the one before goes; one at 0 holds at once.
    """
    time = torch.arange(frames) / fps
    rises = [((time - key.seconds) / FADE).clamp(0, 1) if key.seconds > 0 else torch.ones(frames) for key in keys]
    smooth = [rise * rise * (3 - 2 * rise) for rise in rises]
    weights: list[torch.Tensor] = []
    for rise in smooth:
        weights = [weight * (1 - rise) for weight in weights] + [rise]
    return torch.stack(weights, 1) if weights else torch.zeros(frames, 0)


def schedule_expressions(motion: Motion, codec: MotionCodec, keys: Sequence[ExpressionKey]) -> Motion:
    """The motion with scheduled expressions; it must be decoded again (:func:`~.editing.decode_motion`)."""
    if not any(key.strength for key in keys):
        return motion
    own = motion.tokens.expression
    mean = own.mean(0, keepdim=True)
    weights = schedule_weights(keys, len(motion), motion.fps).to(own)
    strengths = weights * weights.new_tensor([key.strength for key in keys])
    targets = torch.stack([codec.named_expression(key.name).to(own) for key in keys])
    shift = torch.einsum("fk,knd->fnd", strengths, targets - mean)
    kept = (1 - (1 - KEPT) * strengths.sum(1).clamp(0, 1))[:, None, None]
    expression = mean + shift + (own - mean) * kept
    return motion.with_tokens(MotionTokens(motion.tokens.head, motion.tokens.lip, expression))
