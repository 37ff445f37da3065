"""Pearson's r of measured series, in numpy alone: one of the evaluation's environments holds no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Series = NDArray[np.float64] | Sequence[float] | Tensor


def correlation(a: Series, b: Series) -> float:
    """Pearson's r of two series ``[n]`` over the frames where both are known; the shorter length counts.

    Returns:
        r in [-1, 1]; 0 if fewer than three frames are known or one of the series is constant.

    >>> round(correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.5]), 6)
    0.997949
    >>> correlation([1.0, 2.0, 3.0, float("nan")], [3.0, 2.0, 1.0, 5.0])
    -1.0
    """
    count = min(len(a), len(b))
    x, y = _numbers(a)[:count], _numbers(b)[:count]
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        return 0.0
    x, y = x[known] - x[known].mean(), y[known] - y[known].mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 1e-12 else 0.0


def mean_correlation(a: Sequence[Series], b: Sequence[Series]) -> float:
    """Mean of :func:`correlation` over pairs of series; pairs with a constant one are left out, nan if none remains.

    >>> mean_correlation([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]], [[2.0, 4.0, 6.0], [0.0, 1.0, 2.0]])
    1.0
    """
    scores = []
    for x, y in zip(a, b, strict=True):
        count = min(len(x), len(y))
        if min(_numbers(x)[:count].std(), _numbers(y)[:count].std()) > 1e-6:
            scores.append(correlation(x, y))
    return sum(scores) / len(scores) if scores else float("nan")


def _numbers(series: Series) -> NDArray[np.float64]:
    """The series as float64, from whatever device."""
    if isinstance(series, np.ndarray | Sequence):
        return np.asarray(series, np.float64)
    return series.detach().cpu().numpy().astype(np.float64)
