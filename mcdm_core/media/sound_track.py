"""An aac track that follows the pictures of an open mp4 file."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from .audio import Audio, resample
from .audio_reader import AudioReader

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_BLOCK = 1024
"""Samples of a block of aac."""


class SoundTrack:
    """Encodes a sound in blocks, no further than the pictures have come; silence follows its end.

    Args:
        container: an open PyAV output.
        audio: the sound from the first frame on, in memory or as a file that is read along.
    """

    def __init__(self, container: Any, audio: Audio | AudioReader) -> None:
        self._source = _Samples(audio)
        self._container = container
        self._rate = self._source.sample_rate
        self._layout = "mono" if self._source.channels == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.bit_rate = 128_000 if self._rate > 24_000 else 64_000
        self._stream.codec_context.time_base = Fraction(1, self._rate)
        self._written = 0

    def write_until(self, seconds: Fraction | float) -> None:
        """Encode whole blocks up to a time."""
        end = int(seconds * self._rate)
        while self._written + _BLOCK <= end:
            self._encode(_BLOCK)

    def finish(self, seconds: Fraction | float) -> None:
        """Encode up to the end, which is at a time, and flush."""
        end = int(seconds * self._rate)
        while self._written < end:
            self._encode(min(_BLOCK, end - self._written))
        for packet in self._stream.encode(None):
            self._container.mux(packet)

    def _encode(self, count: int) -> None:
        import av

        block = self._source.take(count)
        frame = av.AudioFrame.from_ndarray(block.numpy(), format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.pts = self._written
        frame.time_base = Fraction(1, self._rate)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._written += count


class _Samples:
    """Samples of a sound one after the other, of a file no more than a few at a time; silence after its end."""

    def __init__(self, audio: Audio | AudioReader) -> None:
        if isinstance(audio, Audio):
            audio = playable(audio)
            self.sample_rate, self.channels = audio.sample_rate, audio.waveform.shape[0]
            self._blocks = iter([audio.waveform])
        else:
            if audio.sample_rate not in _AAC_RATES:
                audio = AudioReader(audio.source, name=audio.name, rate=48_000)
            self.sample_rate, self.channels = audio.sample_rate, audio.channels
            self._blocks = (block.clamp(-1, 1) for block in audio)
        self._held = torch.zeros(self.channels, 0)

    def take(self, count: int) -> torch.Tensor:
        """The next ``[c, count]``."""
        while self._held.shape[1] < count:
            block = next(self._blocks, None)
            if block is None:
                self._held = torch.nn.functional.pad(self._held, (0, count - self._held.shape[1]))
            else:
                self._held = torch.cat([self._held, block], 1)
        taken, self._held = self._held[:, :count].contiguous(), self._held[:, count:]
        return taken


def playable(audio: Audio) -> Audio:
    """Sound as aac takes it: one or two channels at a standard rate, in [-1, 1].

    >>> sound = playable(Audio(torch.rand(6, 1_000), 11_111))
    >>> sound.waveform.shape, sound.sample_rate
    (torch.Size([1, 4320]), 48000)
    """
    waveform = audio.waveform.detach().cpu().float()
    if waveform.ndim == 3:
        waveform = waveform[0]
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.shape[0] > 2:
        waveform = waveform.mean(0, keepdim=True)
    rate = audio.sample_rate
    if rate not in _AAC_RATES:
        waveform, rate = resample(waveform, rate, 48_000), 48_000
    return Audio(waveform.clamp(-1, 1).contiguous(), rate)
