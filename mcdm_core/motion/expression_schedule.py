"""Expressions that change over time: a line such as ``0 neutral, 3.5 happy 0.8 gaze_x 0.4, 6 yaw 0.5`` for a motion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MCDMError
from ..models.motion_codec import EXPRESSIONS, MotionCodec
from ..models.motion_tokens import MotionTokens
from .face_values import TRAITS, TraitAxes
from .head_turn import TURNS, turn_shift
from .motion import Motion

FADE = 0.5
"""Seconds in which one expression goes over into the next."""
KEPT = 0.5
"""Share of the motion's own changes (blinks, brows) that a full expression keeps."""
STRONGEST = 1.5
BY_HAND = (*TRAITS, *TURNS)
"""What a key sets beside an expression."""
_WORDS = {*EXPRESSIONS, *BY_HAND}


@dataclass(frozen=True)
class ExpressionKey:
    """From ``seconds`` on the face has this expression; ``strength`` 0 is the face as the voice makes it.

    ``traits`` are single ones beside it, of the face (``face_values.TRAITS``) or the head (``head_turn.TURNS``), each
    from -1 to 1.
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
    """A key as :func:`parse_schedule` reads it.

    >>> format_key(parse_schedule("3.5 happy 0.8 gaze_x 0.4")[0])
    '3.5 happy 0.8 gaze_x 0.4'
    """
    words = [f"{key.seconds:g}"]
    if key.strength or not key.traits:
        words += [key.name] + ([f"{key.strength:g}"] if key.strength else [])
    return " ".join([*words, *(f"{name} {amount:g}" for name, amount in key.traits)])


def _parse_key(part: str) -> ExpressionKey:
    words = part.lower().split()
    if words[0] in _WORDS:
        words = ["0", *words]
    seconds, named, traits = 0.0, list[tuple[str, float]](), tuple[tuple[str, float], ...]()
    try:
        seconds, found = float(words[0]), list(_pairs(words[1:]))
        named = [(name, amount) for name, amount in found if name in EXPRESSIONS]
        traits = tuple((name, amount) for name, amount in found if name in BY_HAND)
        good = 0 <= seconds < math.inf and bool(found) and len(named) <= 1 and len(dict(traits)) == len(traits)
        good = good and all(0 <= amount <= STRONGEST for _, amount in named)
        good = good and all(-1 <= amount <= 1 for _, amount in traits)
    except ValueError:
        good = False
    if not good:
        raise MCDMError(
            f"The expression schedule has {part.strip()!r}; expected seconds, an expression and a strength from 0 to "
            f"{STRONGEST:g}, as in '3.5 happy 0.8'. Expressions: {', '.join(EXPRESSIONS)}. Beside or without one, from "
            f"-1 to 1: {', '.join(BY_HAND)}."
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
        if word in _WORDS:
            yield word, 1.0 if not following or following in _WORDS else float(following)
        elif index == 0 or words[index - 1] not in _WORDS:
            raise ValueError(word)


def schedule_weights(keys: Sequence[ExpressionKey], frames: int, fps: float) -> torch.Tensor:
    """How far each key holds at each frame: [frames, keys]; at most 1 together, 0 before the first key.

    A key begins at its time and is reached ``FADE`` seconds later, while the one before goes; one at 0 holds at once.

    >>> schedule_weights(parse_schedule("0 neutral, 1 happy"), frames=3, fps=1)
    tensor([[1., 0.],
            [1., 0.],
            [0., 1.]])
    """
    time = torch.arange(frames) / fps
    rises = [((time - key.seconds) / FADE).clamp(0, 1) if key.seconds > 0 else torch.ones(frames) for key in keys]
    smooth = [rise * rise * (3 - 2 * rise) for rise in rises]
    weights: list[torch.Tensor] = []
    for rise in smooth:
        weights = [weight * (1 - rise) for weight in weights] + [rise]
    return torch.stack(weights, 1) if weights else torch.zeros(frames, 0)


def schedule_expressions(
    motion: Motion, codec: MotionCodec, keys: Sequence[ExpressionKey], landmarks: Tensor | None = None
) -> Motion:
    """The motion with scheduled expressions; it must be decoded again (:func:`~.editing.decode_motion`).

    Args:
        landmarks: of the portrait ``[68, 2]``, which keys that turn the head need.

    Raises:
        MCDMError: if a key turns the head and there are none.
    """
    if not any(key.strength or key.traits for key in keys):
        return motion
    own = motion.tokens.expression
    mean = own.mean(0, keepdim=True)
    weights = schedule_weights(keys, len(motion), motion.fps).to(own)
    strengths = weights * weights.new_tensor([key.strength for key in keys])
    targets = torch.stack([codec.named_expression(key.name).to(own) for key in keys])
    shift = torch.einsum("fk,knd->fnd", strengths, targets - mean)
    faces, turns = _by_hand(keys, TRAITS), _by_hand(keys, TURNS)
    if any(faces):
        axes = TraitAxes.of(codec)
        looks = torch.stack([axes.shift(face) for face in faces]).to(own)
        shift = shift + torch.einsum("fk,knd->fnd", weights, looks)
    head = motion.tokens.head
    if any(turns):
        if landmarks is None:
            raise MCDMError("Turning the head needs the portrait's landmarks, and none were given.")
        poses = torch.stack([turn_shift(codec, landmarks, turn) for turn in turns]).to(head)
        head = head + torch.einsum("fk,knd->fnd", weights.to(head), poses)
    kept = (1 - (1 - KEPT) * strengths.sum(1).clamp(0, 1))[:, None, None]
    expression = mean + shift + (own - mean) * kept
    return motion.with_tokens(MotionTokens(head, motion.tokens.lip, expression))


def _by_hand(keys: Sequence[ExpressionKey], names: Mapping[str, object]) -> list[dict[str, float]]:
    """What each key sets of these names."""
    return [{name: amount for name, amount in key.traits if name in names} for key in keys]
