"""Is the picture of a face good enough: sharpness, exposure, blocks of compression. No network is needed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .settings import CurateSettings

_SIDES = (64, 256)
"""Faces are compared at their own size within these, so that neither enlarging nor detail beyond use counts."""
_BLOCK = 8
_STREAK = 5
"""Measured frames that have to be blurred one after the other, a second of them."""


def measure_face(frame: NDArray[np.uint8], square: NDArray[np.float32]) -> dict[str, float]:
    """Numbers of one frame's face.

    Args:
        frame: ``[h, w, 3]`` at full size; square: centre x, y and side in its pixels.

    Returns:
        ``sharpness``: mean absolute Laplacian behind a blur of one pixel over that behind one of two. A blurred picture
        loses little by another blur (1.3 at a blur of four pixels), a sharp one much (about 2). Contrast and the noise
        of coding do not matter. ``luma``: of 255. ``clipped``: share of black and white pixels. ``blockiness``: steps
        at the strongest of the 8 places in a block of compression over those at the others (1: none).
    """
    x, y, side = (float(value) for value in square)
    half = side / 2
    rows = slice(max(0, int(y - half)), max(2, int(y + half)))
    columns = slice(max(0, int(x - half)), max(2, int(x + half)))
    grey = cv2.cvtColor(np.ascontiguousarray(frame[rows, columns]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = min(max(*grey.shape, _SIDES[0]), _SIDES[1]) / max(grey.shape)
    small = grey
    if scale != 1.0:
        size = (max(8, round(grey.shape[1] * scale)), max(8, round(grey.shape[0] * scale)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    detail, coarse = (
        np.abs(cv2.Laplacian(cv2.GaussianBlur(small, (0, 0), sigma), cv2.CV_32F)).mean() for sigma in (1.0, 2.0)
    )
    sharpness = float((detail + 1e-3) / (coarse + 1e-3))
    clipped = float(((grey < 8) | (grey > 247)).mean())
    return {
        "sharpness": sharpness,
        "luma": float(grey.mean()),
        "clipped": clipped,
        "blockiness": (_blockiness(grey) + _blockiness(grey.T)) / 2,
    }


def picture_fault(numbers: dict[str, float], settings: CurateSettings) -> str:
    """Why the pictures of a clip cannot be used, of its mean numbers; "" if they can."""
    if numbers["sharpness"] < settings.min_sharpness or numbers["least_sharpness"] < settings.min_sharpness_second:
        return "blurred"
    exposed = settings.min_luma <= numbers["luma"] <= settings.max_luma
    if not exposed or numbers["clipped"] > settings.max_clipped:
        return "badly exposed"
    return "blocky" if numbers["blockiness"] > settings.max_blockiness else ""


def average(measured: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each number over frames; ``least_sharpness`` is that of the most blurred second."""
    sharp = np.array([numbers["sharpness"] for numbers in measured])
    streak = np.convolve(sharp, np.full(min(_STREAK, len(sharp)), 1 / min(_STREAK, len(sharp))), mode="valid")
    means = {key: float(np.mean([numbers[key] for numbers in measured])) for key in measured[0]}
    return means | {"least_sharpness": float(streak.min())}


def _blockiness(grey: NDArray[Any]) -> float:
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    if len(steps) < 4 * _BLOCK:
        return 1.0
    places = np.array([steps[place::_BLOCK].mean() for place in range(_BLOCK)])
    strongest = int(places.argmax())
    others = np.delete(places, strongest).mean()
    return float(places[strongest] / max(float(others), 0.1))
