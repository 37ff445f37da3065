"""What a speaker feels from one sentence to the next, and how it sounds: face and voice tell the same.

The directions are those that studies of acted emotion agree on (Scherer 2003; Juslin and Laukka 2003). Joy, anger and
fear are spoken higher, faster and louder than neutral speech; sadness lower, slower, softer and duller.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..people.expressions import EXPRESSIONS
from .speech import Voice

_KEPT = 0.75
"""Share of the sentences that are spoken in the mood of the one before."""
_NEUTRAL = 0.28


@dataclasses.dataclass(frozen=True)
class Mood:
    """A named expression (``name``), how strongly it shows (``strength`` in [0, 1]) and from when, in seconds."""

    name: str
    strength: float
    start: float


@dataclasses.dataclass(frozen=True)
class _Manner:
    """Change of a voice at full strength: pitch and range in espeak-ng's hundredths, rate and loudness as factors,
    brightness from -1 to 1."""

    pitch: float = 0.0
    range: float = 0.0
    rate: float = 1.0
    loudness: float = 1.0
    brightness: float = 0.0


_MANNERS: dict[str, _Manner] = {
    "neutral": _Manner(),
    "happy": _Manner(14, 25, 1.10, 1.15, 0.25),
    "sad": _Manner(-12, -28, 0.78, 0.55, -0.45),
    "angry": _Manner(6, 18, 1.15, 1.40, 0.45),
    "surprised": _Manner(20, 30, 1.05, 1.10, 0.20),
    "fearful": _Manner(18, -8, 1.22, 0.80, 0.10),
    "disgusted": _Manner(-6, -5, 0.88, 0.95, -0.15),
    "contempt": _Manner(-5, -12, 0.92, 0.90, -0.05),
}


def next_mood(previous: Mood | None, start: float, rng: np.random.Generator) -> Mood:
    """The mood of the sentence that begins after ``start`` seconds: often that of the one before."""
    if previous is not None and rng.random() < _KEPT:
        return dataclasses.replace(previous, start=start)
    name = "neutral" if rng.random() < _NEUTRAL else str(rng.choice(EXPRESSIONS[1:]))
    return Mood(name, float(rng.uniform(0.25, 1.0)), start)


def voice_in_mood(voice: Voice, mood: Mood) -> Voice:
    """The speaker's voice in a mood; loudness and brightness are of the sound (:func:`sound_in_mood`)."""
    manner, strength = _MANNERS[mood.name], mood.strength
    return dataclasses.replace(
        voice,
        words_per_minute=round(voice.words_per_minute * manner.rate**strength),
        pitch=int(np.clip(voice.pitch + manner.pitch * strength, 0, 99)),
        pitch_range=int(np.clip(voice.pitch_range + manner.range * strength, 0, 99)),
    )


def sound_in_mood(audio: np.ndarray, mood: Mood) -> np.ndarray:
    """Clean speech ``[s]`` as loud and as bright as it is in a mood; the timing does not change."""
    manner, strength = _MANNERS[mood.name], mood.strength
    tilt = manner.brightness * strength
    before = np.concatenate([audio[:1], audio[:-1]])
    return ((audio - tilt * before) / (1 + abs(tilt)) * manner.loudness**strength).astype(np.float32)
