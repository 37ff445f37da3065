"""Agreement of two series of measurements, in numpy alone: the evaluation's environment holds no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]


def pearson(a: Series, b: Series) -> float:
    """Pearson's r of two series ``[n]`` over the frames where both are known; the shorter length counts.

    Returns:
        r in [-1, 1]; 0 if fewer than three frames are known or one of the series is constant.
    """
    count = min(len(a), len(b))
    a, b = np.asarray(a[:count], float), np.asarray(b[:count], float)
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return 0.0
    a, b = a[known] - a[known].mean(), b[known] - b[known].mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 1e-12 else 0.0


def share_within(distances: Series, limit: float) -> float:
    """Share of known distances of at most ``limit``; an unknown one (nan: no face found) counts as outside."""
    return float((np.nan_to_num(distances, nan=np.inf) <= limit).mean()) if len(distances) else 0.0


def mean_or_nan(values: Series | list[float]) -> float:
    """Mean of the known values, nan if there is none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
