"""Reading of any sound FFmpeg knows, and its preparation for the audio encoder (mono, 16 kHz)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import AudioError, FrameRateError
from .audio_reader import RATES, AudioReader
from .stored_sound import StoredSound

logger = logging.getLogger(__name__)

MODEL_SAMPLE_RATE = 16_000
SILENCE_PEAK = 1e-4
"""A peak below -80 dB of full scale counts as silence."""
OPPOSED = 0.05
"""A mean of channels below this part of their peak says that they cancel."""
_PIECE = 600
"""Windows looked at for silence at a time: a minute."""


@dataclass(frozen=True)
class Audio:
    """Sound as ``waveform`` [c, t], float in about [-1, 1], and its ``sample_rate`` in Hz."""

    waveform: torch.Tensor
    sample_rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.waveform.shape[-1] / self.sample_rate


def load_audio(source: str | Path | BinaryIO, *, name: str = "") -> Audio:
    """Decode the first audio stream of any file FFmpeg reads, at its own rate, as one or two channels.

    What is damaged is left out, with a warning. :class:`~.audio_reader.AudioReader` reads block by block instead.

    Args:
        source: a path or an open binary file; name: for messages.

    Raises:
        AudioError: if the file is missing, has no audio, or nothing of it can be decoded.
    """
    reader = AudioReader(source, name=name)
    return Audio(torch.cat(list(reader), 1), reader.sample_rate)


def to_mono_16k(
    waveform: torch.Tensor, sample_rate: int, *, allow_silent: bool = False, target_rate: int = MODEL_SAMPLE_RATE
) -> torch.Tensor:
    """Mix to one channel and resample for the audio encoder.

    Args:
        waveform: [t], [c, t] or [1, c, t], integer or float.
        sample_rate: in Hz.
        allow_silent: accept sound that is silent throughout (the mouth then stays closed).

    Returns:
        [t'] float32 at ``target_rate``; the length is round(t * target / rate).

    Raises:
        AudioError: for an empty, non-finite or wholly silent waveform, or a senseless sample rate.

    >>> to_mono_16k(torch.rand(2, 48_000), 48_000).shape
    torch.Size([16000])
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise AudioError(
            f"The sample rate is {sample_rate} Hz; expected {RATES[0]} to {RATES[1]}. Check the audio input."
        )
    samples = waveform.detach().cpu()
    if not samples.is_floating_point():
        samples = samples.float() / float(torch.iinfo(waveform.dtype).max)
    samples = samples.float()
    if samples.ndim == 3 and samples.shape[0] == 1:
        samples = samples[0]
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim != 2:
        raise AudioError(f"The waveform has shape {list(waveform.shape)}; expected [t], [c, t] or [1, c, t].")
    if samples.numel() == 0:
        raise AudioError("The audio has length zero. Give a recording of some speech.")
    if not torch.isfinite(samples).all():
        raise AudioError("The audio holds NaN or infinite samples. Save it again or convert it to 16-bit wav.")
    mono = samples.mean(0)
    if samples.shape[0] > 1 and mono.abs().max() < OPPOSED * samples.abs().max():
        # Channels in opposite phase cancel in the mean; the loudest alone still holds the voice.
        mono = samples[samples.pow(2).mean(1).argmax()]
    check_silence(mono, sample_rate, allow_silent)
    return resample(mono, sample_rate, target_rate)


def mix(first: Audio, second: Audio) -> Audio:
    """Both sounds at once from their beginnings, at the first's rate and as long as the longer.

    >>> short, long = Audio(torch.zeros(1, 160), 16_000), Audio(torch.ones(1, 320), 16_000)
    >>> mix(short, long).waveform.shape
    torch.Size([1, 320])
    """
    other = resample(second.waveform.float().cpu(), second.sample_rate, first.sample_rate)
    length = max(first.waveform.shape[-1], other.shape[-1])
    parts = [torch.nn.functional.pad(wave, (0, length - wave.shape[-1])) for wave in (first.waveform, other)]
    return Audio((parts[0] + parts[1]).clamp(-1, 1), first.sample_rate)


def resample(waveform: torch.Tensor, sample_rate: int, target_rate: int) -> torch.Tensor:
    """Band-limited resampling of [..., t] (libsoxr's high quality, or FFmpeg's), exact to the sample in length.

    >>> resample(torch.rand(2, 48_000), 48_000, 16_000).shape
    torch.Size([2, 16000])
    """
    length = max(1, round(waveform.shape[-1] * target_rate / sample_rate))
    if sample_rate == target_rate:
        return waveform
    out = _resampler()(waveform.numpy(), sample_rate, target_rate)
    result = torch.from_numpy(out.copy()).float()[..., :length]
    return torch.nn.functional.pad(result, (0, length - result.shape[-1]))


@functools.cache
def _resampler() -> Callable[[NDArray[np.float32], int, int], NDArray[np.float32]]:
    """libsoxr's, or FFmpeg's where soxr cannot be imported."""
    try:
        import soxr
    except ImportError as error:
        logger.info("soxr cannot be used here (%s); sound is resampled by FFmpeg.", error)
        return _resample_by_ffmpeg
    return lambda wave, have, want: soxr.resample(wave.T, have, want, quality="HQ").T


def _resample_by_ffmpeg(wave: NDArray[np.float32], have: int, want: int) -> NDArray[np.float32]:
    import av

    rows = []
    for row in np.atleast_2d(wave):
        resampler = av.AudioResampler(format="flt", layout="mono", rate=want)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(row[None]), format="flt", layout="mono")
        frame.sample_rate = have
        blocks = [*resampler.resample(frame), *resampler.resample(None)]
        rows.append(np.concatenate([block.to_ndarray()[0] for block in blocks]))
    return np.stack(rows).reshape(*wave.shape[:-1], -1)


def check_silence(mono: torch.Tensor | StoredSound, sample_rate: int, allow_silent: bool) -> None:
    """Raise for silence throughout, warn when more than half of the sound [t] is silent."""
    window = max(1, sample_rate // 10)
    pieces = (mono[first : first + _PIECE * window].abs() for first in range(0, len(mono), _PIECE * window))
    loudest, quiet, count = 0.0, 0, 0
    for piece in pieces:  # numbers alone are kept: small tensors between large ones would hold their memory
        loudest = max(loudest, float(piece.max()))
        peaks = piece[: len(piece) // window * window].reshape(-1, window).amax(1)
        quiet, count = quiet + int((peaks < SILENCE_PEAK).sum()), count + len(peaks)
    if loudest < SILENCE_PEAK:
        message = (
            "The audio is silent throughout (peak under -80 dB), so there is nothing to speak. Check that the right "
            "track and channel were recorded, or set allow_silent for a resting face."
        )
        if not allow_silent:
            raise AudioError(message)
        logger.warning("The audio is silent throughout; the face will rest.")
        return
    if quiet > 0.5 * count:
        logger.warning("More than half of the audio is digital silence; the mouth stays closed there.")


def frame_count(num_samples: int, sample_rate: int, fps: float) -> int:
    """Number of video frames for a sound: max(1, round(T * fps)); one clock for sound and picture.

    Raises:
        FrameRateError: if ``fps`` is not a positive finite number up to 120.

    >>> frame_count(32_000, sample_rate=16_000, fps=25)
    50
    """
    if not 0 < fps <= 120:
        raise FrameRateError(f"The frame rate is {fps}; expected a number above 0 and up to 120. 25 is usual.")
    return max(1, round(num_samples / sample_rate * fps))


def loudness(waveform: torch.Tensor, sample_rate: int, fps: float, num_frames: int) -> torch.Tensor:
    """Loudness of every video frame's sound [num_frames] in nepers of amplitude, floored 50 dB under the loudest.

    Args:
        waveform: mono [t].

    >>> waveform = torch.cat([torch.zeros(640), torch.ones(640)])
    >>> loudness(waveform, 16_000, 25, 2)
    tensor([-5.7500,  0.0000], dtype=torch.float64)
    """
    edges = (torch.arange(num_frames + 1, dtype=torch.float64) / fps * sample_rate).round().long()
    edges = edges.clamp(max=waveform.numel())
    energy = torch.cat([waveform.new_zeros(1).double(), waveform.double().square().cumsum(0)])
    mean = (energy[edges[1:]] - energy[edges[:-1]]) / (edges[1:] - edges[:-1]).clamp(min=1)
    level = mean.clamp(min=1e-12).log() / 2
    return level.clamp(min=float(level.max()) - 5.75)
