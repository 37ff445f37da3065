"""An aac track that follows the pictures of an open container."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from ..mcdm_core.media.audio import Audio
from ..mcdm_core.media.video_writer import _playable

BLOCK = 1024


class SoundTrack:
    """Encodes a sound in blocks, no further than the pictures have come.

    Args:
        container: an open PyAV output.
        audio: the sound from the first frame on; silence follows its end.
    """

    def __init__(self, container: Any, audio: Audio) -> None:
        playable = _playable(audio)
        assert playable is not None
        self._audio = playable
        self._scale = playable.sample_rate / audio.sample_rate
        self._container = container
        layout = "mono" if playable.waveform.shape[0] == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=playable.sample_rate, layout=layout)
        self._stream.bit_rate = 128_000 if playable.sample_rate > 24_000 else 64_000
        self._layout = layout
        self._written = 0

    def write_until(self, seconds: Fraction | float) -> None:
        """Encode whole blocks up to a time."""
        end = int(seconds * self._audio.sample_rate)
        while self._written + BLOCK <= end:
            self._encode(BLOCK)

    def finish(self, samples: int) -> None:
        """Encode to the end, given in samples of the original sound, and flush."""
        end = round(samples * self._scale)
        while self._written < end:
            self._encode(min(BLOCK, end - self._written))
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
