"""An aac track that follows the pictures of an open mp4 file."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from .audio import Audio, resample

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_BLOCK = 1024
"""Samples of a block of aac."""


class SoundTrack:
    """Encodes a sound in blocks, no further than the pictures have come; silence follows its end.

    Args:
        container: an open PyAV output.
        audio: the sound from the first frame on.
    """

    def __init__(self, container: Any, audio: Audio) -> None:
        self._audio = playable(audio)
        self._container = container
        self._layout = "mono" if self._audio.waveform.shape[0] == 1 else "stereo"
        rate = self._audio.sample_rate
        self._stream = container.add_stream("aac", rate=rate, layout=self._layout)
        self._stream.bit_rate = 128_000 if rate > 24_000 else 64_000
        self._stream.codec_context.time_base = Fraction(1, rate)
        self._written = 0

    def write_until(self, seconds: Fraction | float) -> None:
        """Encode whole blocks up to a time."""
        end = int(seconds * self._audio.sample_rate)
        while self._written + _BLOCK <= end:
            self._encode(_BLOCK)

    def finish(self, seconds: Fraction | float) -> None:
        """Encode up to the end, which is at a time, and flush."""
        end = int(seconds * self._audio.sample_rate)
        while self._written < end:
            self._encode(min(_BLOCK, end - self._written))
        for packet in self._stream.encode(None):
            self._container.mux(packet)

    def _encode(self, count: int) -> None:
        import av

        block = self._audio.waveform[:, self._written : self._written + count]
        block = torch.nn.functional.pad(block, (0, count - block.shape[1])).contiguous()
        frame = av.AudioFrame.from_ndarray(block.numpy(), format="fltp", layout=self._layout)
        frame.sample_rate = self._audio.sample_rate
        frame.pts = self._written
        frame.time_base = Fraction(1, self._audio.sample_rate)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._written += count


def playable(audio: Audio) -> Audio:
    """Sound as aac takes it: one or two channels at a standard rate, in [-1, 1]."""
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
