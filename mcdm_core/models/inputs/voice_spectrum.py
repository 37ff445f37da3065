"""The spectrum of a long voice, computed where it is asked for: memory does not grow with its length."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import AudioEncoderConfig
from ...media.stored_sound import StoredSound
from ..audio_encoder import (
    LOG_FLOOR,
    LOUD_RANGE,
    MEAN_SPECTRUM,
    QUIETEST_LEVEL,
    WINDOW_SAMPLES,
    gather_windows,
    log_mel,
)

BLOCK = 12_000
"""Columns of a voice up to which its spectrum is held whole: two minutes."""
_PIECE = 3_000
"""Columns of a longer one that are computed at a time."""
_MOST = 16_000_000
"""Values that :func:`torch.quantile` takes; a voice of 44 hours has as many columns."""


def _loud(power: Tensor) -> float:
    """The 95th percentile of the columns' power."""
    return float(torch.quantile(power[:: len(power) // _MOST + 1], 0.95))


class VoiceSpectrum:
    """Log-mels of a voice, normalised as by :func:`~.audio_encoder.normalize_level`.

    The loud level and the mean spectrum are those of the whole voice; to find them it is gone through twice.

    Args:
        waveform: ``[t]`` at the configuration's rate, in memory or on the disk; settings: of the encoder.
        block: columns computed at a time.
    """

    def __init__(self, waveform: Tensor | StoredSound, settings: AudioEncoderConfig, block: int = _PIECE) -> None:
        self.waveform, self.settings, self.block = waveform, settings, block
        self.columns = len(waveform) // settings.hop_length + 1
        power = torch.empty(self.columns)  # in one piece: small tensors between large ones would hold their memory
        for first, mels in zip(range(0, self.columns, block), self._blocks(), strict=True):
            power[first : first + block] = torch.logsumexp(mels, 0)
        loud = _loud(power)
        self.level = max(loud - math.log(settings.num_mels), QUIETEST_LEVEL)
        self.colour = torch.full((settings.num_mels, 1), MEAN_SPECTRUM)
        if settings.spectral_balance:
            total, count, first = torch.zeros(settings.num_mels, dtype=torch.float64), 0, 0
            for mels in self._blocks():
                counted = power[first : first + mels.shape[1]] > loud - LOUD_RANGE
                total += (mels[:, counted] - self.level).sum(1, dtype=torch.float64)
                count, first = count + int(counted.sum()), first + mels.shape[1]
            self.colour = (total / max(count, 1)).float()[:, None]

    def windows(self, centres: Tensor) -> Tensor:
        """Windows ``[n, num_mels, w]`` centred on rising ``centres [n]`` (in columns); beyond the ends is silence."""
        width = self.settings.window_frames
        # An even shift leaves the rounding of halves to even numbers as it is.
        first = max(0, math.floor(float(centres[0]) - width) // 2 * 2)
        last = min(self.columns, math.ceil(float(centres[-1])) + width)
        mels = self._normalized(first, last) if last > first else torch.full((self.settings.num_mels, 1), -1.0)
        return gather_windows(mels, centres - first, width)

    def _normalized(self, first: int, last: int) -> Tensor:
        relative = self._log_mels(first, last) - self.level
        relative -= self.settings.spectral_balance * (self.colour - MEAN_SPECTRUM)
        return (relative / LOG_FLOOR).clamp_(-1.0, 1.0)

    def _blocks(self) -> Iterator[Tensor]:
        for first in range(0, self.columns, self.block):
            yield self._log_mels(first, min(first + self.block, self.columns))

    def _log_mels(self, first: int, last: int) -> Tensor:
        """Columns ``first`` to ``last`` of the log-mels of the whole voice."""
        hop, half = self.settings.hop_length, WINDOW_SAMPLES // 2
        start, end = first * hop - half, (last - 1) * hop + half
        piece = self.waveform[max(start, 0) : min(end, len(self.waveform))]
        piece = F.pad(piece, (max(-start, 0), max(end - len(self.waveform), 0)))
        return log_mel(piece, self.settings.sample_rate, self.settings.num_mels, hop, padded=False)
