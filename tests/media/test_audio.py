"""Reading and preparing of sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mcdm_core.errors import AudioError, FrameRateError
from mcdm_core.media.audio import frame_count, load_audio, to_mono_16k


def write(path: Path, wave: np.ndarray, rate: int, codec: str) -> Path:
    layout = "mono" if wave.shape[0] == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        data = np.ascontiguousarray((wave * 32767).astype(np.int16).T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def sine(rate: int, seconds: float = 0.7, channels: int = 1, frequency: float = 440) -> np.ndarray:
    t = np.arange(int(rate * seconds)) / rate
    return np.repeat(0.5 * np.sin(2 * np.pi * frequency * t)[None], channels, 0)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channel_count_keeps_length_and_pitch(tmp_path: Path, rate: int, channels: int) -> None:
    audio = load_audio(write(tmp_path / "a.wav", sine(rate, channels=channels), rate, "pcm_s16le"))
    assert audio.waveform.shape == (channels, int(rate * 0.7)) and audio.sample_rate == rate
    mono = to_mono_16k(audio.waveform, rate)
    assert mono.shape == (round(int(rate * 0.7) * 16_000 / rate),)
    spectrum = torch.fft.rfft(mono).abs()
    assert abs(spectrum.argmax().item() / 0.7 - 440) < 3
    assert mono.abs().max() == pytest.approx(0.5, abs=0.06)


def test_resampling_removes_what_would_alias(tmp_path: Path) -> None:
    high = torch.from_numpy(sine(48_000, frequency=10_500)).float()  # above the new Nyquist frequency
    assert to_mono_16k(high, 48_000)[2000:-2000].abs().max() < 1e-3


def test_flac_and_integer_waveforms(tmp_path: Path) -> None:
    audio = load_audio(write(tmp_path / "a.flac", sine(16_000), 16_000, "flac"))
    assert to_mono_16k(audio.waveform, 16_000).shape == (11_200,)
    whole = (torch.from_numpy(sine(16_000)) * 32767).short()
    assert to_mono_16k(whole, 16_000).abs().max() == pytest.approx(0.5, abs=0.01)


def test_channels_in_opposite_phase_do_not_cancel() -> None:
    wave = torch.from_numpy(sine(16_000)).float()
    assert to_mono_16k(torch.cat([wave, -wave]), 16_000).abs().max() > 0.4


def test_silence_is_an_error_unless_allowed() -> None:
    with pytest.raises(AudioError, match="silent throughout"):
        to_mono_16k(torch.zeros(2, 16_000), 16_000)
    assert to_mono_16k(torch.zeros(2, 16_000), 16_000, allow_silent=True).shape == (16_000,)


def test_partly_silent_sound_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    wave = torch.zeros(1, 16_000)
    wave[:, :3000] = 0.2
    to_mono_16k(wave, 16_000)
    assert "closed" in caplog.text


@pytest.mark.parametrize(
    ("wave", "rate", "word"),
    [
        (torch.zeros(1, 0), 16_000, "zero"),
        (torch.full((1, 9), torch.nan), 16_000, "NaN"),
        (torch.ones(1, 9), 0, "rate"),
    ],
)
def test_unusable_waveforms_are_named(wave: torch.Tensor, rate: int, word: str) -> None:
    with pytest.raises(AudioError, match=word):
        to_mono_16k(wave, rate)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio file"):
        load_audio(tmp_path / "missing.wav")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFFnonsense")
    with pytest.raises(AudioError, match="broken.wav"):
        load_audio(broken)
    with pytest.raises(AudioError, match="length zero|decoded"):
        load_audio(write_empty(tmp_path / "empty.wav"))


def write_empty(path: Path) -> Path:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    return path


def test_frames_cover_the_sound() -> None:
    assert frame_count(16_000, 16_000, 25) == 25
    assert frame_count(10, 16_000, 25) == 1
    assert frame_count(16_000 * 600, 16_000, 29.97) == 17982
    for fps in (0, -1, float("nan"), 1000):
        with pytest.raises(FrameRateError):
            frame_count(16_000, 16_000, fps)
