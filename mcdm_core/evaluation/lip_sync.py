"""Do the lips move with the sound? Correlations with the speech's loudness and with the motion that was predicted.

This is no SyncNet score: it needs no outside network. It tells whether the mouth opens when there is voice, and at
which lag. The control is the sound of another moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..correlation import correlation


@dataclass(frozen=True)
class LipSync:
    """Correlation at the best lag and at lag 0, that lag in seconds (positive: the lips are late), and the control."""

    correlation: float
    correlation_at_zero: float
    lag: float
    control: float


def lip_sync(opening: Tensor, sound: Tensor, fps: float, max_lag: float = 0.2) -> LipSync:
    """Compare lip opening [n] with a series of the sound [n] (loudness, or the predicted opening).

    Args:
        max_lag: lags searched, in seconds either way.
    """
    count = min(len(opening), len(sound))
    opening, sound = opening[:count], sound[:count]
    reach = min(round(max_lag * fps), max(0, count // 4))

    def at(lag: int) -> float:
        if lag >= 0:
            return correlation(opening[lag:], sound[: count - lag])
        return correlation(opening[:lag], sound[-lag:])

    scores = {lag: at(lag) for lag in range(-reach, reach + 1)}
    best = max(scores, key=lambda lag: scores[lag])
    control = correlation(opening, sound.roll(count // 2))
    return LipSync(scores[best], scores[0], best / fps, control)
