"""Facial values and head pose of a rendered frame, from the mesh and the actions that made it."""

from __future__ import annotations

import numpy as np

from ...face.landmarks import EYE_CORNERS, FULL_OPENING, INNER_LIP_PAIRS, LIP_CORNERS, NUM_VALUES, VALUE_NAMES
from .graphics.rig import Rig
from .people.head_asset import HeadAsset

# Geometric measures at full strength, in eye distances of the template: both mouthStretch at 1.
_FULL_WIDENING = 0.12


def lip_geometry(points: np.ndarray) -> np.ndarray:
    """Inner lip gap and mouth width of 3-D landmarks, both over the eye distance.

    Args:
        points: ``[..., 68, 3]`` landmarks in the mesh's units.

    Returns:
        ``[..., 2]``. The gap is measured along the head's vertical axis and negative where lips overlap. So the points
        have to be those of the unturned head.
    """
    pairs, corners = np.array(INNER_LIP_PAIRS), np.array(EYE_CORNERS)
    eyes = points[..., corners, :].mean(axis=-2)
    distance = np.linalg.norm(eyes[..., 1, :] - eyes[..., 0, :], axis=-1)
    gap = (points[..., pairs[:, 0], 2] - points[..., pairs[:, 1], 2]).mean(axis=-1)
    width = np.linalg.norm(points[..., LIP_CORNERS[1], :] - points[..., LIP_CORNERS[0], :], axis=-1)
    return np.stack([gap, width], axis=-1) / distance[..., None]


def values_of_actions(asset: HeadAsset, rig: Rig, actions: np.ndarray) -> np.ndarray:
    """The 16 values ``[t, 16]`` float32 of a face that makes ``actions [t, 52]``, without a picture of it."""
    geometry = [lip_geometry(rig.unposed(action)[rig.landmark_ids]) for action in actions]
    return facial_values(asset, actions, np.stack(geometry), resting_lips(rig))


def resting_lips(rig: Rig) -> np.ndarray:
    """:func:`lip_geometry` ``[2]`` of a person's neutral face."""
    return lip_geometry(rig.identity.vertices[rig.landmark_ids])


def facial_values(asset: HeadAsset, actions: np.ndarray, geometry: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The 16 values of face/landmarks.py.

    Args:
        actions: ``[t, 52]``.
        geometry: ``[t, 2]`` of :func:`lip_geometry`; ``rest``: ``[2]``, of the neutral face.

    Returns:
        ``[t, 16]`` float32.
    """

    def of(*names: str) -> np.ndarray:
        return np.mean([actions[:, asset.action(name)] for name in names], axis=0)

    def both(name: str) -> np.ndarray:
        return of(name + "Left", name + "Right")

    values = {
        "lip_opening": np.clip(geometry[:, 0] - max(rest[0], 0.0), 0, None) / FULL_OPENING,
        "lip_width": (geometry[:, 1] - rest[1]) / _FULL_WIDENING,
        "lip_protrusion": of("mouthPucker") + 0.8 * of("mouthFunnel"),
        "lip_press": (both("mouthPress") + of("mouthRollLower", "mouthRollUpper")) / 0.7,
        "smile": both("mouthSmile"),
        "frown": both("mouthFrown"),
        "blink_left": of("eyeBlinkLeft"),
        "blink_right": of("eyeBlinkRight"),
        "squint": both("eyeSquint"),
        "eye_wide": both("eyeWide"),
        "brow_raise": of("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
        "brow_lower": both("browDown"),
        "gaze_x": of("eyeLookOutLeft", "eyeLookInRight") - of("eyeLookInLeft", "eyeLookOutRight"),
        "gaze_y": both("eyeLookUp") - both("eyeLookDown"),
        "cheek_puff": of("cheekPuff"),
        "nose_wrinkle": both("noseSneer"),
    }
    stacked = np.stack([values[name] for name in VALUE_NAMES], axis=1).astype(np.float32)
    assert stacked.shape[1] == NUM_VALUES
    return stacked
