"""Summaries of measured series with gaps, in numpy alone: the evaluation's environment holds no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]


def share_within(distances: Series, limit: float) -> float:
    """Share of known distances of at most ``limit``; an unknown one (nan: no face found) counts as outside."""
    return float((np.nan_to_num(distances, nan=np.inf) <= limit).mean()) if len(distances) else 0.0


def mean_or_nan(values: Series | list[float]) -> float:
    """Mean of the known values, nan if there is none."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
