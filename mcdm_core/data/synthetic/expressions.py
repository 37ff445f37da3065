"""Eight named expressions as action weights, blended over time."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .head_asset import HeadAsset
from .visemes import action_vector

_WEIGHTS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"mouthSmile": 0.70, "cheekSquint": 0.55, "eyeSquint": 0.25, "browInnerUp": 0.10, "mouthUpperUp": 0.10},
    "sad": {"mouthFrown": 0.65, "browInnerUp": 0.75, "mouthShrugLower": 0.25, "eyeSquint": 0.15, "eyeLookDown": 0.15},
    "angry": {"browDown": 0.85, "noseSneer": 0.35, "mouthPress": 0.25, "eyeSquint": 0.35, "mouthFrown": 0.25},
    "surprised": {"browInnerUp": 0.75, "browOuterUp": 0.85, "eyeWide": 0.80, "jawOpen": 0.10},
    "fearful": {"browInnerUp": 0.85, "browOuterUp": 0.25, "eyeWide": 0.65, "mouthStretch": 0.40, "browDown": 0.15},
    "disgusted": {"noseSneer": 0.80, "mouthUpperUp": 0.30, "browDown": 0.45, "eyeSquint": 0.45, "mouthFrown": 0.25},
    "contempt": {"mouthSmileLeft": 0.55, "mouthDimpleLeft": 0.50, "eyeSquintLeft": 0.20, "browOuterUpRight": 0.35},
}
EXPRESSIONS: tuple[str, ...] = tuple(_WEIGHTS)


def expression_matrix(asset: HeadAsset) -> np.ndarray:
    """``[8, 52]`` action weights in the order of :data:`EXPRESSIONS`."""
    return np.stack([action_vector(asset, _WEIGHTS[name]) for name in EXPRESSIONS])


def random_expression_track(
    asset: HeadAsset, steps: int, rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random sequence of expressions that melt into each other; a third of the clips keep one all the time.

    Args:
        steps: number of time steps.
        rate: time steps a second.

    Returns:
        Actions ``[steps, 52]`` and the weight of each named expression ``[steps, 8]``, both in [0, 1].
    """
    matrix = expression_matrix(asset)
    weights = np.zeros((steps, len(EXPRESSIONS)))
    start = 0
    mirrored = rng.random() < 0.5
    steady = rng.random() < 0.33
    while start < steps:
        length = steps if steady else int(rng.uniform(0.8, 3.5) * rate)
        which = int(rng.integers(len(EXPRESSIONS))) if rng.random() < 0.72 else 0
        strength = rng.uniform(0.25, 1.0)
        weights[start : start + length, which] = strength
        if rng.random() < 0.25:
            weights[start : start + length, int(rng.integers(1, len(EXPRESSIONS)))] += rng.uniform(0.1, 0.4)
        start += length
    weights = gaussian_filter1d(np.clip(weights, 0, 1), rng.uniform(0.08, 0.22) * rate, axis=0, mode="nearest")
    actions = weights @ matrix
    if mirrored:
        actions = actions[:, mirrored_actions(asset)]
    return np.clip(actions, 0, 1).astype(np.float32), weights.astype(np.float32)


def mirrored_actions(asset: HeadAsset) -> np.ndarray:
    """Permutation ``[52]`` that swaps the left and right actions."""
    order = []
    for name in asset.action_names:
        if name.endswith("Left"):
            name = name[:-4] + "Right"
        elif name.endswith("Right"):
            name = name[:-5] + "Left"
        order.append(asset.action(name))
    return np.array(order)
