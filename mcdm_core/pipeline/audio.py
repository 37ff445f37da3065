"""A voice made ready for the motion prior: one group of tokens a video frame (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..media.audio import frame_count, to_mono_16k
from ..media.stored_sound import StoredSound
from ..model import MCDMModel
from ..models.audio_encoder import ContextAudioEncoder, frame_centres, gather_windows
from ..models.inputs.voice_spectrum import BLOCK, VoiceSpectrum

AUDIO_CHUNK = 256
"""Video frames whose sound is encoded at a time."""


class StreamedTokens:
    """Tokens [N, k, d] of a long voice, encoded where they are asked for: a slice of frames at a time.

    Args:
        encode: tokens of the chunk of :data:`AUDIO_CHUNK` frames of a number; count: N.
    """

    def __init__(self, encode: Callable[[int], Tensor], count: int) -> None:
        self._encode, self._count = encode, count
        self._last: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, frames: slice) -> Tensor:
        """Tokens [n, k, d] of a slice without a step."""
        first, last, _ = frames.indices(self._count)
        chunks = range(first // AUDIO_CHUNK, max(first, last - 1) // AUDIO_CHUNK + 1)
        found = torch.cat([self._chunk(number) for number in chunks])
        start = first - chunks[0] * AUDIO_CHUNK
        return found[start : start + max(0, last - first)]

    def _chunk(self, number: int) -> Tensor:
        if self._last is None or self._last[0] != number:
            self._last = number, self._encode(number)
        return self._last[1]


@dataclass(frozen=True)
class AudioEmbedding:
    """Sound prepared for the motion prior: tokens [N, k, d], one group a video frame; mono waveform [t] at 16 kHz.

    Of a long voice that is read from the disk both give slices alone.
    """

    tokens: Tensor | StreamedTokens
    num_frames: int
    fps: float
    waveform: Tensor | StoredSound
    sample_rate: int


class AudioEmbedder:
    """From sound to an :class:`AudioEmbedding`."""

    def __init__(self, model: MCDMModel) -> None:
        self.model = model

    @torch.no_grad()
    def embed(
        self, waveform: Tensor, sample_rate: int, fps: float | None = None, *, allow_silent: bool = False
    ) -> AudioEmbedding:
        """Encode sound: one group of tokens for each of max(1, round(T fps)) video frames.

        Args:
            waveform: [t] or [c, t] at any rate.
            fps: frames a second, the model's by default.
            allow_silent: accept sound that is silent throughout.

        Raises:
            AudioError, FrameRateError: for unusable sound or rates.
        """
        fps = float(fps or self.model.config.fps)
        rate = self.model.config.audio_encoder.sample_rate
        mono = to_mono_16k(waveform, sample_rate, allow_silent=allow_silent, target_rate=rate)
        count = frame_count(mono.numel(), rate, fps)
        encoder = self.model.audio_encoder
        if isinstance(encoder, ContextAudioEncoder):
            chunks: Iterator[Tensor] = self._windows(encoder, mono, count, fps)
        else:
            chunks = iter(encoder.frame_windows(mono.to(self.model.device), rate, fps, count).split(AUDIO_CHUNK))
        tokens = torch.cat([encoder(chunk.to(self.model.device)) for chunk in chunks])
        return AudioEmbedding(tokens, count, fps, mono, rate)

    def embed_stored(self, voice: StoredSound, fps: float | None = None) -> AudioEmbedding:
        """The same of a voice of ``stream_mono`` at the model's rate, in memory that does not grow with its length.

        Raises:
            AudioError, FrameRateError: see :meth:`embed`.
        """
        settings, encoder = self.model.config.audio_encoder, self.model.audio_encoder
        if not isinstance(encoder, ContextAudioEncoder) or len(voice) <= BLOCK * settings.hop_length:
            return self.embed(voice[:], settings.sample_rate, fps, allow_silent=True)
        fps = float(fps or self.model.config.fps)
        count = frame_count(len(voice), settings.sample_rate, fps)
        chunks = frame_centres(count, fps, settings.sample_rate, settings.hop_length).split(AUDIO_CHUNK)
        spectrum = VoiceSpectrum(voice, settings)

        @torch.no_grad()
        def encode(number: int) -> Tensor:
            return encoder(spectrum.windows(chunks[number]).to(self.model.device))

        return AudioEmbedding(StreamedTokens(encode, count), count, fps, voice, settings.sample_rate)

    def _windows(self, encoder: ContextAudioEncoder, mono: Tensor, count: int, fps: float) -> Iterator[Tensor]:
        """Windows chunk by chunk: they overlap tenfold. The spectrum of a long sound is never held whole."""
        settings = self.model.config.audio_encoder
        chunks = frame_centres(count, fps, settings.sample_rate, settings.hop_length).split(AUDIO_CHUNK)
        if len(mono) <= BLOCK * settings.hop_length:
            mels = encoder.spectrum(mono)
            return (gather_windows(mels, part, settings.window_frames) for part in chunks)
        spectrum = VoiceSpectrum(mono, settings)
        return (spectrum.windows(part) for part in chunks)
