"""Facial actions and head movement of a spoken clip, lips and expression apart.

Lips follow the phonemes through visemes with dominance functions; the head follows the prosody (energy and pitch);
blinks, gaze and named expressions come on top. Everything is computed at 200 Hz and read at the middle of each frame.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .expressions import random_expression_track
from .head_asset import HeadAsset
from .speech import SAMPLE_RATE, Phoneme
from .visemes import DOMINANCE, FIXED, VISEMES, viseme_matrix, visemes_of

_RATE = 200
_LEAD = 0.04
"""Seconds by which the lips are ahead of the sound."""


@dataclasses.dataclass(frozen=True)
class Motion:
    """``lips`` and ``expression``: actions ``[t, 52]`` that add up; ``head``: ``[t, 6]`` yaw, pitch, roll in radians
    (signs as in models/landmarks.py) and a shift in the mesh's units; ``closure``: ``[t]`` in [0, 1], how firmly the
    lips are pressed together; ``expression_weights``: ``[t, 8]``, how much of each named expression is shown."""

    lips: np.ndarray
    expression: np.ndarray
    head: np.ndarray
    closure: np.ndarray
    expression_weights: np.ndarray

    @property
    def actions(self) -> np.ndarray:
        """``[t, 52]`` actions of the whole face."""
        return np.clip(self.lips + self.expression, 0.0, 1.15)


def random_motion(
    asset: HeadAsset, phonemes: list[Phoneme], audio: np.ndarray, frames: int, fps: int, rng: np.random.Generator
) -> Motion:
    """Motion of a clip.

    Args:
        phonemes: with times counted from the clip's start (they may begin before it).
        audio: ``[s]`` clean float speech of the clip at 16 kHz.
        frames: number of video frames.
    """
    steps = int(round(frames / fps * _RATE)) + 1
    energy = _energy(audio, steps)
    lips, closure = _lip_track(asset, phonemes, energy, steps, rng.uniform(0.85, 1.45))
    expression, named = random_expression_track(asset, steps, _RATE, rng)
    _add_blinks(asset, expression, rng)
    _add_brows(asset, expression, energy, rng)
    _add_gaze(asset, expression, rng)
    # An expression may not open lips that a sound holds closed.
    for name in ("jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight", "mouthShrugLower"):
        expression[:, asset.action(name)] *= 1 - closure
    head = _head_track(energy, _pitch(audio, steps), steps, rng)
    at = np.minimum(((np.arange(frames) + 0.5) * _RATE / fps).astype(int), steps - 1)
    return Motion(
        lips[at].astype(np.float32),
        np.clip(expression[at], 0, 1.1).astype(np.float32),
        head[at].astype(np.float32),
        closure[at].astype(np.float32),
        named[at].astype(np.float32),
    )


def _energy(audio: np.ndarray, steps: int) -> np.ndarray:
    """Smoothed loudness ``[steps]``, about 1 in loud vowels."""
    window = int(0.03 * SAMPLE_RATE)
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(window) / window, "same")
    times = np.arange(steps) / _RATE * SAMPLE_RATE
    level = np.interp(times, np.arange(len(power)), np.sqrt(np.maximum(power, 1e-12)), right=0)
    return gaussian_filter1d(np.clip(level / (np.percentile(level, 90) + 1e-6), 0, 1.3), 8)


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
    segments: list[tuple[str, float, float]] = []
    for phoneme in phonemes:
        names = visemes_of(phoneme.symbol)
        width = (phoneme.end - phoneme.start) / len(names)
        segments += [(name, phoneme.start + i * width, phoneme.start + (i + 1) * width) for i, name in enumerate(names)]
    total, weight = np.zeros((steps, matrix.shape[1])), np.full(steps, 1e-4)
    for name, start, end in segments:
        middle, half = (start + end) / 2 - _LEAD, (end - start) / 2
        fall = np.where(times < middle, 0.055, 0.050)
        pull = DOMINANCE[name] * np.exp(-((np.maximum(np.abs(times - middle) - half * 0.6, 0) / fall) ** 1.3))
        total += pull[:, None] * matrix[VISEMES.index(name)]
        weight += pull
    actions = total / weight[:, None]
    actions *= (amplitude * (0.72 + 0.38 * energy))[:, None]
    closure = np.zeros(steps)
    for name, start, end in segments:
        if name not in FIXED:
            continue
        middle = (start + end) / 2 - _LEAD * 0.5
        hold = np.exp(-(((times - middle) / max(0.030, (end - start) * 0.45)) ** 4))
        actions = actions * (1 - hold[:, None]) + hold[:, None] * matrix[VISEMES.index(name)]
        if name == "PP":
            closure = np.maximum(closure, hold)
    return gaussian_filter1d(np.clip(actions, 0, 1.1), 3, axis=0), closure


def _slow_noise(steps: int, spread: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a given spread, smooth over ``seconds``."""
    pad = int(4 * seconds * _RATE)
    width = seconds * _RATE
    smooth = gaussian_filter1d(rng.normal(0, 1, steps + 2 * pad), width)[pad : pad + steps]
    return spread * smooth * np.sqrt(2 * np.sqrt(np.pi) * width)


def _add_blinks(asset: HeadAsset, actions: np.ndarray, rng: np.random.Generator) -> None:
    times = np.arange(len(actions)) / _RATE
    left, right = asset.action("eyeBlinkLeft"), asset.action("eyeBlinkRight")
    at = rng.exponential(0.9)
    while at < times[-1]:
        # Lids are quite shut for at least one frame; now and then they stay so.
        width = rng.uniform(0.065, 0.11) if rng.random() < 0.88 else rng.uniform(0.15, 0.4)
        lid = np.exp(-(((times - at) / width) ** 4))
        for index in (left, right):
            actions[:, index] = np.maximum(actions[:, index], lid)
            for wide in ("eyeWideLeft", "eyeWideRight"):
                actions[:, asset.action(wide)] *= 1 - lid
        at += 0.35 + width + rng.exponential(1.7)
    if rng.random() < 0.25:
        # Half-closed lids for a while; a wink now and then.
        lid = np.clip(_slow_noise(len(actions), 0.35, 0.3, rng), 0, 0.8)
        one = rng.choice([left, right])
        for index in (left, right) if rng.random() < 0.7 else (one,):
            actions[:, index] = np.maximum(actions[:, index], lid)


def _add_brows(asset: HeadAsset, actions: np.ndarray, energy: np.ndarray, rng: np.random.Generator) -> None:
    accent = gaussian_filter1d(energy, 30) - 0.4
    raised = np.clip(_slow_noise(len(actions), 0.25, 0.35, rng) + 0.6 * accent, 0, 1) * rng.uniform(0.2, 0.9)
    for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"):
        actions[:, asset.action(name)] += raised
    smile = max(0.0, rng.normal(0.05, 0.15))
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        actions[:, asset.action(name)] += smile * rng.uniform(0.8, 1.2)
    if rng.random() < 0.12:
        actions[:, asset.action("cheekPuff")] += np.clip(_slow_noise(len(actions), 0.4, 0.3, rng), 0, 0.8)


def _add_gaze(asset: HeadAsset, actions: np.ndarray, rng: np.random.Generator) -> None:
    steps = len(actions)
    gaze = np.zeros((2, steps))
    at = 0
    while at < steps:
        gaze[:, at:] = rng.normal(0, [0.35, 0.20])[:, None]
        at += int((rng.exponential(1.2) + 0.2) * _RATE)
    gaze = gaussian_filter1d(gaze, 3, axis=1)
    for positive, negative, track in (
        (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight"), gaze[0]),
        (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight"), gaze[1]),
    ):
        for name in positive:
            actions[:, asset.action(name)] += np.maximum(track, 0)
        for name in negative:
            actions[:, asset.action(name)] += np.maximum(-track, 0)


def _head_track(energy: np.ndarray, pitch: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Yaw, pitch, roll and shift ``[steps, 6]``: slow wandering, nods on loud syllables, tilt with pitch."""
    # Most people hold their head still while they speak, and nod with what they stress; some are lively.
    size = rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.8)
    delay = int(rng.uniform(0.02, 0.10) * _RATE)
    stress = np.roll(gaussian_filter1d(energy - energy.mean(), 0.10 * _RATE), delay)
    melody = np.roll(gaussian_filter1d(pitch, 0.12 * _RATE), delay)
    yaw = _slow_noise(steps, 0.06, 0.8, rng) * size + rng.normal(0, 0.17) + 0.030 * melody * size
    nod = _slow_noise(steps, 0.022, 0.6, rng) * size + rng.normal(0, 0.07) - (0.11 * stress - 0.045 * melody) * size
    roll = _slow_noise(steps, 0.02, 0.8, rng) * size + rng.normal(0, 0.04) + 0.022 * stress * size
    shift = [_slow_noise(steps, spread, 0.6, rng) * size for spread in (0.003, 0.0015, 0.002)]
    return np.stack([np.clip(yaw, -0.6, 0.6), np.clip(nod, -0.35, 0.35), np.clip(roll, -0.3, 0.3), *shift], axis=1)
