"""Facial actions and head movement of a spoken clip, lips and expression apart.

Lips follow the phonemes through visemes with dominance functions. The head follows the prosody (energy and pitch).
Expressions are the sentences' moods and swell with the voice. Eyes and brows go with pauses and stress
(``people/eyes.py``). Everything is computed at 200 Hz and read at the middle of each frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .people.expressions import SMILE, expression_track, random_face
from .people.eyes import add_blinks, add_brows, add_gaze, set_gaze
from .people.head_asset import HeadAsset
from .people.tracks import slow_noise
from .people.visemes import DOMINANCE, FIXED, VISEMES, viseme_matrix, visemes_of
from .speech.moods import Mood
from .speech.speech import SAMPLE_RATE, Phoneme

_RATE = 200
_RISE, _FALL = 0.150, 0.071
"""Seconds in which a viseme's pull grows before its sound and fades after it, fitted like the visemes' weights."""
_AMPLITUDE = (0.40, 0.85)
"""Share of the visemes' weights that people show when they talk, drawn for each; of the filmed speaker 0.43."""
_FIDGETY = 0.1
"""Share of the people whose eyes and brows move by chance."""


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a person moves when they speak, whatever they say.

    ``articulation``: share of the visemes' weights that is shown; ``liveliness``: how far the head moves; ``fidgety``:
    whether eyes and brows move by chance; ``smile``: how much of one stays on the face.
    """

    articulation: float
    liveliness: float
    fidgety: bool
    smile: float


@dataclasses.dataclass(frozen=True)
class Motion:
    """``lips`` and ``expression``: actions ``[t, 52]`` that add up; ``head``: ``[t, 6]`` yaw, pitch, roll in radians
    (signs as in face/landmarks.py) and a shift in the mesh's units; ``closure``: ``[t]`` in [0, 1], how firmly the
    lips are pressed together; ``expression_weights``: ``[t, 8]``, how much of each named expression is shown;
    ``manner``: the person's."""

    lips: np.ndarray
    expression: np.ndarray
    head: np.ndarray
    closure: np.ndarray
    expression_weights: np.ndarray
    manner: Manner

    @property
    def actions(self) -> np.ndarray:
        """``[t, 52]`` actions of the whole face."""
        return np.clip(self.lips + self.expression, 0.0, 1.15)


def random_motion(
    asset: HeadAsset,
    phonemes: list[Phoneme],
    audio: np.ndarray,
    frames: int,
    fps: int,
    rng: np.random.Generator,
    moods: Sequence[Mood] = (),
    manner: Manner | None = None,
) -> Motion:
    """Motion of a clip.

    Args:
        phonemes: with times counted from the clip's start (they may begin before it).
        audio: ``[s]`` clean float speech of the clip at 16 kHz.
        frames: number of video frames.
        moods: of the sentences, the first begins before the clip; none means neutral.
        manner: of a certain person; without one it is drawn.
    """
    steps = int(round(frames / fps * _RATE)) + 1
    energy, melody = loudness(audio, steps, _RATE), _pitch(audio, steps)
    pauses = pauses_between(phonemes, steps / _RATE)
    articulation = rng.uniform(*_AMPLITUDE) if manner is None else manner.articulation
    lips, closure = _lip_track(asset, phonemes, energy, steps, articulation)
    liveliness = _random_liveliness(rng) if manner is None else manner.liveliness
    head = _head_track(energy, melody, steps, liveliness, rng)
    fidgety = rng.random() < _FIDGETY if manner is None else manner.fidgety
    swell = 0.72 + 0.4 * gaussian_filter1d(energy, 0.30 * _RATE, mode="nearest")
    spans = [(mood.start, mood.name, mood.strength) for mood in moods]
    expression, named = expression_track(asset, spans, swell, _RATE, rng)
    smile = max(0.0, rng.normal(0.05, 0.15)) if manner is None else manner.smile
    for name in SMILE:
        expression[:, asset.action(name)] += smile * rng.uniform(0.8, 1.2)
    add_blinks(asset, expression, _RATE, pauses, fidgety, rng)
    add_brows(asset, expression, _RATE, energy, melody, fidgety, rng)
    add_gaze(asset, expression, _RATE, head, pauses, fidgety, rng)
    _keep_closed(asset, expression, closure)
    at = np.minimum(((np.arange(frames) + 0.5) * _RATE / fps).astype(int), steps - 1)
    return Motion(
        lips[at].astype(np.float32),
        np.clip(expression[at], 0, 1.1).astype(np.float32),
        head[at].astype(np.float32),
        closure[at].astype(np.float32),
        named[at].astype(np.float32),
        Manner(float(articulation), float(liveliness), bool(fidgety), float(smile)),
    )


def random_expression(asset: HeadAsset, closure: float, rng: np.random.Generator) -> np.ndarray:
    """An expression ``[52]`` of any moment, eyes to anywhere, on lips that are pressed together by ``closure``."""
    expression = random_face(asset, rng)
    set_gaze(asset, expression, *np.clip(rng.normal(0, [0.35, 0.20]), -1, 1))
    _keep_closed(asset, expression[None], np.array([closure]))
    return np.clip(expression, 0, 1.1)


def _keep_closed(asset: HeadAsset, expression: np.ndarray, closure: np.ndarray) -> None:
    """An expression ``[t, 52]`` may not open lips that a sound holds closed (``closure [t]``)."""
    for name in ("jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthShrugLower"):
        expression[:, asset.action(name)] *= 1 - closure


def pauses_between(phonemes: list[Phoneme], duration: float, shortest: float = 0.14) -> list[tuple[float, float]]:
    """(start, end) in seconds of the silences of a clip, from the phonemes; they may begin before it or end after it.

    Args:
        phonemes: in order; what lies between two of them is silence as well.
        shortest: of the silences that count; a stop consonant's is shorter.
    """
    found, spoken = [], -1.0
    voiced = [(p.start, p.end) for p in phonemes if visemes_of(p.symbol) != ["sil"]]
    for start, end in [*voiced, (duration + 1.0, duration + 1.0)]:
        if start - spoken >= shortest and start > 0 and spoken < duration:
            found.append((spoken, start))
        spoken = max(spoken, end)
    return found


def viseme_spans(phonemes: Sequence[Phoneme]) -> list[tuple[str, float, float]]:
    """(viseme, start, end) in seconds of what is said; a phoneme of two visemes is shared out in halves."""
    spans: list[tuple[str, float, float]] = []
    for phoneme in phonemes:
        names = visemes_of(phoneme.symbol)
        width = (phoneme.end - phoneme.start) / len(names)
        spans += [(name, phoneme.start + i * width, phoneme.start + (i + 1) * width) for i, name in enumerate(names)]
    return spans


def loudness(audio: np.ndarray, steps: int, rate: int) -> np.ndarray:
    """Smoothed loudness ``[steps]`` of ``audio [s]`` at 16 kHz, ``rate`` steps a second: about 1 in loud vowels."""
    window = int(0.03 * SAMPLE_RATE)
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(window) / window, "same")
    times = np.arange(steps) / rate * SAMPLE_RATE
    level = np.interp(times, np.arange(len(power)), np.sqrt(np.maximum(power, 1e-12)), right=0)
    return gaussian_filter1d(np.clip(level / (np.percentile(level, 90) + 1e-6), 0, 1.3), 0.04 * rate)


def _pitch(audio: np.ndarray, steps: int) -> np.ndarray:
    """Smoothed pitch movement ``[steps]`` in about [-1, 1], from the autocorrelation of 40 ms windows."""
    hop, window = SAMPLE_RATE // 50, int(0.04 * SAMPLE_RATE)
    low, high = SAMPLE_RATE // 350, SAMPLE_RATE // 70
    padded = np.pad(audio.astype(np.float64), (window // 2, window))
    count = max(1, len(audio) // hop)
    rows = np.stack([padded[i * hop : i * hop + window] for i in range(count)])
    spectrum = np.fft.rfft(rows - rows.mean(axis=1, keepdims=True), 2 * window)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, :high]
    best = low + correlation[:, low:high].argmax(axis=1)
    voiced = correlation[np.arange(count), best] > 0.4 * correlation[:, 0] + 1e-6
    if voiced.sum() < 3:
        return np.zeros(steps)
    times = np.arange(count) * hop / SAMPLE_RATE
    contour = np.log2(SAMPLE_RATE / best)
    contour = np.interp(np.arange(steps) / _RATE, times[voiced], contour[voiced])
    contour = gaussian_filter1d(contour - np.median(contour), 0.06 * _RATE)
    return np.clip(contour / 0.35, -1.5, 1.5)


def _lip_track(
    asset: HeadAsset, phonemes: list[Phoneme], energy: np.ndarray, steps: int, amplitude: float
) -> tuple[np.ndarray, np.ndarray]:
    """Actions ``[steps, 52]`` of the visemes and how far a bilabial closes the lips ``[steps]``."""
    times = np.arange(steps) / _RATE
    matrix = viseme_matrix(asset)
    segments = viseme_spans(phonemes)
    total, weight = np.zeros((steps, matrix.shape[1])), np.full(steps, 1e-4)
    for name, start, end in segments:
        middle, half = (start + end) / 2, (end - start) / 2
        fall = np.where(times < middle, _RISE, _FALL)
        pull = DOMINANCE[name] * np.exp(-((np.maximum(np.abs(times - middle) - half * 0.6, 0) / fall) ** 1.3))
        total += pull[:, None] * matrix[VISEMES.index(name)]
        weight += pull
    actions = total / weight[:, None]
    actions *= (amplitude * (0.86 + 0.14 * energy))[:, None]
    closure = np.zeros(steps)
    for name, start, end in segments:
        if name not in FIXED:
            continue
        hold = np.exp(-(((times - (start + end) / 2) / max(0.030, (end - start) * 0.45)) ** 4))
        actions = actions * (1 - hold[:, None]) + hold[:, None] * matrix[VISEMES.index(name)]
        if name == "PP":
            closure = np.maximum(closure, hold)
    return gaussian_filter1d(np.clip(actions, 0, 1.1), 3, axis=0), closure


def _random_liveliness(rng: np.random.Generator) -> float:
    # Most people hold their head still while they speak, and nod with what they stress; some are lively.
    return rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.8)


def _head_track(energy: np.ndarray, pitch: np.ndarray, steps: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """Yaw, pitch, roll and shift ``[steps, 6]``: slow wandering, nods on loud syllables, tilt with pitch."""
    delay = int(rng.uniform(0.02, 0.10) * _RATE)
    stress = np.roll(gaussian_filter1d(energy - energy.mean(), 0.10 * _RATE), delay)
    melody = np.roll(gaussian_filter1d(pitch, 0.12 * _RATE), delay)
    yaw = slow_noise(steps, 0.06, 0.8 * _RATE, rng) * size + rng.normal(0, 0.17) + 0.030 * melody * size
    nod = slow_noise(steps, 0.022, 0.6 * _RATE, rng) * size + rng.normal(0, 0.07)
    nod -= (0.11 * stress - 0.045 * melody) * size
    roll = slow_noise(steps, 0.02, 0.8 * _RATE, rng) * size + rng.normal(0, 0.04) + 0.022 * stress * size
    shift = [slow_noise(steps, spread, 0.6 * _RATE, rng) * size for spread in (0.003, 0.0015, 0.002)]
    return np.stack([np.clip(yaw, -0.6, 0.6), np.clip(nod, -0.35, 0.35), np.clip(roll, -0.3, 0.3), *shift], axis=1)
