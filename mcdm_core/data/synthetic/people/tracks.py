"""Random movement over time."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def slow_noise(steps: int, spread: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise ``[steps]`` of a given spread, smooth over ``width`` steps."""
    pad = int(4 * width)
    smooth = gaussian_filter1d(rng.normal(0, 1, steps + 2 * pad), width)[pad : pad + steps]
    return spread * smooth * np.sqrt(2 * np.sqrt(np.pi) * width)
