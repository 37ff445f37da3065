"""Eight named expressions as action weights, blended over time and with the voice; faces drawn at random."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ....models.motion_tokens import EXPRESSIONS
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
BROWS = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
SMILE = ("mouthSmileLeft", "mouthSmileRight")
LIDS = ("eyeBlinkLeft", "eyeBlinkRight")


def expression_matrix(asset: HeadAsset) -> np.ndarray:
    """``[8, 52]`` action weights in the order of :data:`EXPRESSIONS`."""
    return np.stack([action_vector(asset, _WEIGHTS[name]) for name in EXPRESSIONS])


def expression_track(
    asset: HeadAsset, spans: list[tuple[float, str, float]], swell: np.ndarray, rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Expressions that melt into each other and swell with the voice.

    Args:
        spans: (start in seconds, name, strength in [0, 1]), the first from before the clip on.
        swell: ``[t]``, about 1, how strongly they show at each time.
        rate: time steps a second.

    Returns:
        Actions ``[t, 52]`` and the weight of each named expression ``[t, 8]``, both in [0, 1].
    """
    weights = np.zeros((len(swell), len(EXPRESSIONS)))
    mirrored = rng.random() < 0.5
    for number, (start, name, strength) in enumerate(spans):
        first = int(max(start, 0) * rate) if number else 0
        weights[first:] = 0
        weights[first:, EXPRESSIONS.index(name)] = strength
    if rng.random() < 0.25:
        weights[:, int(rng.integers(1, len(EXPRESSIONS)))] += rng.uniform(0.1, 0.4)
    weights = gaussian_filter1d(np.clip(weights, 0, 1), rng.uniform(0.10, 0.22) * rate, axis=0, mode="nearest")
    weights = np.clip(weights * swell[:, None], 0, 1)
    actions = weights @ expression_matrix(asset)
    if mirrored:
        actions = actions[:, mirrored_actions(asset)]
    return np.clip(actions, 0, 1).astype(np.float32), weights.astype(np.float32)


def random_face(asset: HeadAsset, rng: np.random.Generator) -> np.ndarray:
    """A moment of any face's expression, actions ``[52]``: a named one, and lids, brows, cheeks as they may be.

    It has no gaze. What a speaker rarely does in a short clip is in the codec's exact pairs by this.
    """
    actions = rng.uniform(0.25, 1.0) * expression_matrix(asset)[int(rng.integers(len(EXPRESSIONS)))]
    if rng.random() < 0.5:
        actions = actions[mirrored_actions(asset)]
    lids, brows, smile = ([asset.action(name) for name in names] for names in (LIDS, BROWS, SMILE))
    if rng.random() < 0.35:
        closed = rng.uniform(0.5, 1.0) if rng.random() < 0.7 else rng.uniform(0, 0.5)
        actions[lids if rng.random() < 0.85 else rng.choice(lids)] = closed
    actions[brows] += max(0.0, rng.normal(0.0, 0.4))
    actions[smile] += max(0.0, rng.normal(0.0, 0.2))
    if rng.random() < 0.1:
        actions[asset.action("cheekPuff")] += rng.uniform(0.1, 0.8)
    return np.clip(actions, 0, 1).astype(np.float32)


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
