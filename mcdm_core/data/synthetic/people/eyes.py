"""Eyes and brows of a speaker: blinks, gaze and accents, when speech makes them likely.

People blink where they pause, raise the brows on what they stress, and keep looking at whom they talk to while the head
turns. They glance aside when they stop to think. A part of it is chance all the same, and a few people fidget.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .expressions import BROWS, LIDS
from .head_asset import HeadAsset
from .tracks import slow_noise

_GAZE = (
    (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
)
_EYE_TURN = 0.55
"""Radians an eye turns at an action of 1."""


def blink_times(
    pauses: list[tuple[float, float]], duration: float, fidgety: bool, rng: np.random.Generator
) -> np.ndarray:
    """Seconds of the blinks' middles: soon after most pauses begin, inside long ones again, and now and then anywhere.

    Args:
        pauses: (start, end) in seconds; fidgety: whether chance alone decides.
    """
    found = list(np.cumsum(rng.exponential(1.5 if fidgety else 7.0, 40)))
    if not fidgety:
        for start, end in pauses:
            again = np.arange(start + 0.10, max(end, start + 0.11), 1.8)
            found += [t for t in again if rng.random() < 0.85]
    kept: list[float] = []
    for at in sorted(t for t in found if 0 <= t < duration):
        if not kept or at - kept[-1] > 0.5:
            kept.append(at)
    return np.array(kept)


def add_blinks(
    asset: HeadAsset,
    actions: np.ndarray,
    rate: float,
    pauses: list[tuple[float, float]],
    fidgety: bool,
    rng: np.random.Generator,
) -> None:
    """Close the lids of ``actions [t, 52]`` (at ``rate`` steps a second) now and then, widened eyes with them."""
    times = np.arange(len(actions)) / rate
    both = [asset.action(name) for name in LIDS]
    wide = [asset.action("eyeWideLeft"), asset.action("eyeWideRight")]
    # Half-closed lids in some tired people, a wink now and then.
    if rng.random() < 0.10:
        actions[:, both] = np.maximum(actions[:, both], rng.uniform(0.15, 0.6))
    for at in blink_times(pauses, len(actions) / rate, fidgety, rng):
        # Lids are quite shut for at least one frame.
        width = rng.uniform(0.075, 0.105) if rng.random() < 0.93 else rng.uniform(0.15, 0.35)
        lid = np.exp(-(((times - at) / width) ** 4))
        for index in [rng.choice(both)] if rng.random() < 0.02 else both:
            actions[:, index] = np.maximum(actions[:, index], lid)
        actions[:, wide] *= (1 - lid)[:, None]


def add_brows(
    asset: HeadAsset,
    actions: np.ndarray,
    rate: float,
    energy: np.ndarray,
    melody: np.ndarray,
    fidgety: bool,
    rng: np.random.Generator,
) -> None:
    """Raise the brows of ``actions [t, 52]`` on loud and high syllables (``energy`` and ``melody [t]``)."""
    accent = gaussian_filter1d(energy, 0.12 * rate) - 0.35 + 0.25 * gaussian_filter1d(melody, 0.12 * rate)
    drift = slow_noise(len(actions), 0.25 if fidgety else 0.05, 0.35 * rate, rng)
    raised = np.clip(0.9 * accent + drift, 0, 1) * rng.uniform(0.2, 0.9)
    for name in BROWS:
        actions[:, asset.action(name)] += raised


def add_gaze(
    asset: HeadAsset,
    actions: np.ndarray,
    rate: float,
    head: np.ndarray,
    pauses: list[tuple[float, float]],
    fidgety: bool,
    rng: np.random.Generator,
) -> None:
    """Turn the eyes of ``actions [t, 52]`` to what the speaker looks at, against the turns of ``head [t, 6]``.

    Most look into the camera and glance aside in some pauses until they speak on; fidgety ones look about.
    """
    steps = len(actions)
    spread = np.array([0.22, 0.12])
    target = np.zeros((2, steps))
    target += rng.normal(0, np.full(2, 0.03) if rng.random() < 0.75 else spread)[:, None]
    if fidgety:
        at = 0
        while at < steps:
            target[:, at:] = rng.normal(0, spread)[:, None]
            at += int((rng.exponential(1.2) + 0.2) * rate)
    else:
        for start, end in pauses:
            if end - start > 0.25 and rng.random() < 0.3:
                first, last = (int(max(t, 0) * rate) for t in (start + 0.05, end + 0.15))
                target[:, first:last] += rng.normal(0, 1.2 * spread)[:, None]
    target = gaussian_filter1d(target, 0.015 * rate, axis=1)
    turned = np.clip((target - head[:, :2].T) / _EYE_TURN, -1, 1)
    set_gaze(asset, actions, turned[0], turned[1])


def set_gaze(asset: HeadAsset, actions: np.ndarray, across: np.ndarray, up: np.ndarray) -> None:
    """Add a gaze to ``actions [..., 52]``: ``across [...]`` to the picture's right, ``up [...]``, both in [-1, 1]."""
    for (positive, negative), track in zip(_GAZE, (across, up), strict=True):
        for names, part in ((positive, np.maximum(track, 0)), (negative, np.maximum(-track, 0))):
            for name in names:
                actions[..., asset.action(name)] += part
