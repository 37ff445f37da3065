"""A sound file as the audio encoder takes it, mixed and resampled block by block; a long one is kept on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..errors import AudioError
from .audio import MODEL_SAMPLE_RATE, OPPOSED, check_silence
from .audio_reader import AudioReader
from .stored_sound import StoredSound


def stream_mono(
    reader: AudioReader,
    *,
    allow_silent: bool = False,
    target_rate: int = MODEL_SAMPLE_RATE,
    folder: str | Path | None = None,
) -> StoredSound:
    """The same as ``to_mono_16k`` of the whole sound, without the whole sound in memory.

    Args:
        folder: see :class:`StoredSound`.

    Returns:
        [t] float32 at ``target_rate``.

    Raises:
        AudioError: for sound that is not finite, or silent throughout; MediaError: if the disk is full.
    """
    mix = _mean if reader.channels == 1 else _mix_of(reader)
    voice = StoredSound(folder)
    length = 0

    def mono() -> Iterator[Tensor]:
        nonlocal length
        for block in reader:
            length += block.shape[1]
            yield mix(block)

    for block in _resampled(mono(), reader.sample_rate, target_rate):
        if not torch.isfinite(block).all():
            raise AudioError(f"{reader.name} holds NaN or infinite samples. Save it again or convert it to 16-bit wav.")
        voice.append(block)
    voice.cut(max(1, round(length * target_rate / reader.sample_rate)))
    check_silence(voice, target_rate, allow_silent)
    return voice


def _mean(block: Tensor) -> Tensor:
    return block.mean(0)


def _mix_of(reader: AudioReader) -> Callable[[Tensor], Tensor]:
    """The mean of the channels, or the louder one if they are in opposite phase; found by reading the sound once."""
    loudest_mean, loudest = 0.0, 0.0
    energy = torch.zeros(reader.channels, dtype=torch.float64)
    for block in reader:
        loudest_mean = max(loudest_mean, float(block.mean(0).abs().max()))
        loudest = max(loudest, float(block.abs().max()))
        energy += block.double().pow(2).sum(1)
    if loudest_mean >= OPPOSED * loudest:
        return _mean
    louder = int(energy.argmax())
    return lambda block: block[louder]


def _resampled(blocks: Iterable[Tensor], have: int, want: int) -> Iterator[Tensor]:
    """Blocks [t] at another rate: by libsoxr, or by FFmpeg where soxr is not installed."""
    if have == want:
        yield from blocks
        return
    try:
        import soxr
    except ImportError:
        yield from _resampled_by_ffmpeg(blocks, have, want)
        return
    stream = soxr.ResampleStream(have, want, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield torch.from_numpy(stream.resample_chunk(block.numpy()).copy())
    yield torch.from_numpy(stream.resample_chunk(torch.zeros(0).numpy(), last=True).copy())


def _resampled_by_ffmpeg(blocks: Iterable[Tensor], have: int, want: int) -> Iterator[Tensor]:
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=want)
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(block.numpy()[None], format="flt", layout="mono")
        frame.sample_rate = have
        yield from (torch.from_numpy(out.to_ndarray()[0].copy()) for out in resampler.resample(frame))
    yield from (torch.from_numpy(out.to_ndarray()[0].copy()) for out in resampler.resample(None))
