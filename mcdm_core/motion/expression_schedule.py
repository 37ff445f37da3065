"""Expressions that change over time: a line such as ``0 neutral, 3.5 happy 0.8 gaze_x 0.4, 6 neutral`` for a motion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..errors import MCDMError
from ..models.motion_codec import EXPRESSIONS, MotionCodec
from ..models.motion_tokens import MotionTokens
from .face_values import TRAITS, TraitAxes
from .motion import Motion

FADE = 0.5
"""Seconds in which one expression goes over into the next."""
KEPT = 0.5
"""Share of the motion's own changes (blinks, brows) that a full expression keeps."""
STRONGEST = 1.5


@dataclass(frozen=True)
class ExpressionKey:
    """From ``seconds`` on the face has this expression; ``strength`` 0 is the face as the voice makes it.

    ``traits`` are single ones beside it (``face_values.TRAITS``), each from -1 to 1.
    """

    seconds: float
    name: str
    strength: float = 1.0
    traits: tuple[tuple[str, float], ...] = ()


def parse_schedule(text: str) -> list[ExpressionKey]:
    """Keys in order of time; none for an empty text.

    >>> parse_schedule("3.5 happy 0.8, 0 neutral")[1]
    ExpressionKey(seconds=3.5, name='happy', strength=0.8, traits=())
    >>> parse_schedule("2 gaze_x -0.5")
    [ExpressionKey(seconds=2.0, name='neutral', strength=0.0, traits=(('gaze_x', -0.5),))]

    A text without a time holds from the beginning: ``happy 0.8``.

    Raises:
        MCDMError: with the part that cannot be read.
    """
    keys = [_parse_key(part) for part in text.replace("\n", ",").replace(";", ",").split(",") if part.strip()]
    return sorted(keys, key=lambda key: key.seconds)


def format_key(key: ExpressionKey) -> str:
    """A key as :func:`parse_schedule` reads it."""
    words = [f"{key.seconds:g}"]
    if key.strength or not key.traits:
        words += [key.name] + ([f"{key.strength:g}"] if key.strength else [])
    return " ".join([*words, *(f"{name} {amount:g}" for name, amount in key.traits)])


def _parse_key(part: str) -> ExpressionKey:
    words = part.lower().split()
    if words[0] in EXPRESSIONS or words[0] in TRAITS:
        words = ["0", *words]
    seconds, named, traits = 0.0, list[tuple[str, float]](), tuple[tuple[str, float], ...]()
    try:
        seconds, found = float(words[0]), list(_pairs(words[1:]))
        named = [(name, amount) for name, amount in found if name in EXPRESSIONS]
        traits = tuple((name, amount) for name, amount in found if name in TRAITS)
        good = 0 <= seconds < math.inf and bool(found) and len(named) <= 1 and len(dict(traits)) == len(traits)
        good = good and all(0 <= amount <= STRONGEST for _, amount in named)
        good = good and all(-1 <= amount <= 1 for _, amount in traits)
    except ValueError:
        good = False
    if not good:
        raise MCDMError(
            f"The expression schedule has {part.strip()!r}; expected seconds, an expression and a strength from 0 to "
            f"{STRONGEST:g}, as in '3.5 happy 0.8'. Expressions: {', '.join(EXPRESSIONS)}. Beside or without one, from "
            f"-1 to 1: {', '.join(TRAITS)}."
        )
    name, strength = named[0] if named else ("neutral", 0.0)
    return ExpressionKey(seconds, name, 0.0 if name == "neutral" else strength, traits)


def _pairs(words: list[str]) -> Iterator[tuple[str, float]]:
    """Names with the numbers that follow them, 1 where none does.

    Raises:
        ValueError: for a word that is neither.
    """
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        if word in EXPRESSIONS or word in TRAITS:
            yield word, 1.0 if not following or following in EXPRESSIONS or following in TRAITS else float(following)
        elif index == 0 or words[index - 1] not in {*EXPRESSIONS, *TRAITS}:
            raise ValueError(word)


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
    if not any(key.strength or key.traits for key in keys):
        return motion
    own = motion.tokens.expression
    mean = own.mean(0, keepdim=True)
    weights = schedule_weights(keys, len(motion), motion.fps).to(own)
    strengths = weights * weights.new_tensor([key.strength for key in keys])
    targets = torch.stack([codec.named_expression(key.name).to(own) for key in keys])
    shift = torch.einsum("fk,knd->fnd", strengths, targets - mean)
    if any(key.traits for key in keys):
        axes = TraitAxes.of(codec)
        looks = torch.stack([axes.shift(dict(key.traits)) for key in keys]).to(own)
        shift = shift + torch.einsum("fk,knd->fnd", weights, looks)
    kept = (1 - (1 - KEPT) * strengths.sum(1).clamp(0, 1))[:, None, None]
    expression = mean + shift + (own - mean) * kept
    return motion.with_tokens(MotionTokens(motion.tokens.head, motion.tokens.lip, expression))
