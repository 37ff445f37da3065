"""Reading of any sound FFmpeg knows, and its preparation for the audio encoder (mono, 16 kHz)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import AudioError, FrameRateError, reason

logger = logging.getLogger(__name__)

MODEL_SAMPLE_RATE = 16_000
SILENCE_PEAK = 1e-4
"""A peak below -80 dB of full scale counts as silence."""


@dataclass(frozen=True)
class Audio:
    """Sound as ``waveform`` [c, t], float in about [-1, 1], and its ``sample_rate`` in Hz."""

    waveform: torch.Tensor
    sample_rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.waveform.shape[-1] / self.sample_rate


def load_audio(path: str | Path) -> Audio:
    """Decode the first audio stream of any file FFmpeg reads, at its own rate and channels.

    A file damaged part of the way is used up to the damage, with a warning.

    Raises:
        AudioError: if the file is missing, has no audio, or nothing of it can be decoded.
    """
    import av
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"There is no audio file at {path}. Check the path.")
    pieces: list[np.ndarray] = []
    rate = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path.name} holds no audio stream. Give a file with speech in it (wav, mp3, mp4).")
            resampler = None
            try:
                for frame in container.decode(container.streams.audio[0]):
                    if resampler is None:
                        rate = frame.sample_rate
                        resampler = av.AudioResampler(format="fltp", layout=frame.layout.name, rate=rate)
                    pieces.extend(out.to_ndarray() for out in resampler.resample(frame))
                if resampler is not None:
                    pieces.extend(out.to_ndarray() for out in resampler.resample(None))
            except av.error.FFmpegError as error:
                if not pieces:
                    raise
                logger.warning("%s is damaged: %s. The part before the damage is used.", path.name, reason(error))
    except av.error.FFmpegError as error:
        raise AudioError(
            f"{path.name} cannot be decoded as audio ({reason(error)}). "
            "Convert it to wav, flac or mp3, or save it again."
        ) from error
    if not pieces or sum(piece.shape[-1] for piece in pieces) == 0:
        raise AudioError(f"{path.name} holds no sound (length zero). Give a recording of some speech.")
    return Audio(torch.from_numpy(np.concatenate(pieces, axis=1).astype(np.float32)), rate)


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
    """
    if sample_rate <= 0:
        raise AudioError(f"The sample rate is {sample_rate} Hz; it must be positive. Check the audio input.")
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
    if samples.shape[0] > 1 and mono.abs().max() < 0.05 * samples.abs().max():
        # Channels in opposite phase cancel in the mean; the loudest alone still holds the voice.
        mono = samples[samples.pow(2).mean(1).argmax()]
    _check_silence(mono, sample_rate, allow_silent)
    return resample(mono, sample_rate, target_rate)


def resample(waveform: torch.Tensor, sample_rate: int, target_rate: int) -> torch.Tensor:
    """Band-limited resampling of [..., t] (libsoxr's high quality, through librosa), exact to the sample in length."""
    length = max(1, round(waveform.shape[-1] * target_rate / sample_rate))
    if sample_rate == target_rate:
        return waveform
    import librosa

    out = librosa.resample(
        waveform.numpy(), orig_sr=sample_rate, target_sr=target_rate, res_type="soxr_hq", axis=-1, fix=False
    )
    result = torch.from_numpy(out.copy()).float()[..., :length]
    return torch.nn.functional.pad(result, (0, length - result.shape[-1]))


def _check_silence(mono: torch.Tensor, sample_rate: int, allow_silent: bool) -> None:
    """Raise for silence throughout, warn when more than half of the sound is silent."""
    if mono.abs().max() < SILENCE_PEAK:
        message = (
            "The audio is silent throughout (peak under -80 dB), so there is nothing to speak. Check that the right "
            "track and channel were recorded, or set allow_silent for a resting face."
        )
        if not allow_silent:
            raise AudioError(message)
        logger.warning("The audio is silent throughout; the face will rest.")
        return
    window = max(1, sample_rate // 10)
    count = mono.numel() // window
    if count:
        peaks = mono[: count * window].reshape(count, window).abs().amax(1)
        if (peaks < SILENCE_PEAK).float().mean() > 0.5:
            logger.warning("More than half of the audio is digital silence; the mouth stays closed there.")


def frame_count(num_samples: int, sample_rate: int, fps: float) -> int:
    """Number of video frames for a sound: max(1, round(T * fps)); one clock for sound and picture.

    Raises:
        FrameRateError: if ``fps`` is not a positive finite number up to 120.
    """
    if not 0 < fps <= 120:
        raise FrameRateError(f"The frame rate is {fps}; expected a number above 0 and up to 120. 25 is usual.")
    return max(1, round(num_samples / sample_rate * fps))
