"""Reading and preparing of sound."""

from __future__ import annotations

import struct
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mcdm_core.errors import AudioError, FrameRateError
from mcdm_core.media.audio import Audio, _resample_by_ffmpeg, frame_count, load_audio, mix, to_mono_16k
from mcdm_core.media.audio_reader import AudioReader, ogg_links
from mcdm_core.media.streamed_voice import stream_mono

INPUTS = Path(__file__).parent / "inputs"


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


@pytest.mark.parametrize(
    ("name", "seconds"), [("joined_layouts.aac", 4.62), ("joined_layouts.ogg", 4.55), ("joined_rates.mp3", 4.66)]
)
def test_sound_joined_of_unlike_parts_is_read_whole(name: str, seconds: float) -> None:
    audio = load_audio(INPUTS / name)
    assert audio.waveform.shape[0] == 1 and audio.duration == pytest.approx(seconds, abs=0.02)
    halves = audio.waveform.chunk(2, 1)
    assert 0.5 < halves[0].std() / halves[1].std() < 2


def test_a_part_at_another_rate_keeps_its_pitch(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{rate}.mp3", sine(rate, 1.5), rate, "libmp3lame") for rate in (44_100, 22_050)]
    (tmp_path / "both.mp3").write_bytes(b"".join(part.read_bytes() for part in parts))
    audio = load_audio(tmp_path / "both.mp3")
    assert audio.sample_rate == 44_100 and audio.duration == pytest.approx(3, abs=0.2)
    for begin in (0.4, 2.0):
        segment = audio.waveform[0, round(begin * 44_100) :][: 44_100 // 2]
        assert abs(torch.fft.rfft(segment).abs().argmax().item() * 2 - 440) < 5


def test_a_chained_ogg_file_is_cut_at_its_links(tmp_path: Path) -> None:
    with open(INPUTS / "joined_layouts.ogg", "rb") as file:
        starts = ogg_links(file)
        size = file.seek(0, 2)
    assert len(starts) == 2 and starts[0] == 0 < starts[1] < size
    with open(INPUTS / "joined_rates.mp3", "rb") as file:
        assert ogg_links(file) == []


def write_channels(path: Path, waves: np.ndarray, rate: int = 16_000, mask: int = 0) -> Path:
    """A 16-bit wav; with a mask the channels have places."""
    count = len(waves)
    extensible = struct.pack("<HHI", 22, 16, mask) + b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    about = struct.pack("<HHIIHH", 0xFFFE, count, rate, rate * count * 2 % 2**32, count * 2, 16) + extensible
    data = (np.clip(waves, -1, 1) * 32767).astype("<i2").T.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(about)) + about + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def test_a_sound_may_be_left_after_its_first_block(tmp_path: Path) -> None:
    silence = np.zeros((1, 48_000), np.float32)
    blocks = AudioReader(write(tmp_path / "a.wav", silence, 16_000, "pcm_s16le")).__iter__()
    assert isinstance(blocks, Generator) and len(next(blocks))
    blocks.close()


@pytest.mark.parametrize("channels", [3, 8, 9, 16, 24, 64])
def test_any_number_of_channels_is_mixed_down(tmp_path: Path, channels: int) -> None:
    audio = load_audio(write_channels(tmp_path / "a.wav", sine(16_000, channels=channels)))
    assert audio.waveform.shape == (2, 11_200) and audio.waveform.abs().max() == pytest.approx(0.5, abs=0.01)


def test_a_voice_in_the_centre_is_as_loud_as_players_make_it(tmp_path: Path) -> None:
    waves = np.zeros((6, 11_200))
    waves[2] = sine(16_000)[0]
    audio = load_audio(write_channels(tmp_path / "a.wav", waves, mask=0x3F))
    loss = 20 * np.log10(audio.waveform.std(1).numpy() / waves[2].std())
    assert audio.waveform.shape[0] == 2 and (np.abs(loss) < 3.5).all()


@pytest.mark.parametrize("rate", [1, 999, 800_000, 4_000_000_000])
def test_what_is_no_rate_of_sound_is_refused_at_once(tmp_path: Path, rate: int) -> None:
    with pytest.raises(AudioError, match="samples a second|cannot be"):
        load_audio(write_channels(tmp_path / "a.wav", sine(16_000), rate))
    with pytest.raises(AudioError, match="sample rate"):
        to_mono_16k(torch.ones(1, 999), rate)


def test_names_that_look_like_addresses_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("voice:1.wav", "a%20b?.wav", "10:30.wav", "http:x.wav"):
        write_channels(Path(name), sine(16_000))
        assert load_audio(name).duration == pytest.approx(0.7)
        assert load_audio(Path(name)).duration == pytest.approx(0.7)


def test_a_list_of_other_files_is_no_sound(tmp_path: Path) -> None:
    write_channels(tmp_path / "a.wav", sine(16_000))
    for name, text in {"a.mp3": "#EXTM3U\n#EXTINF:1,\na.wav\n", "b.mp3": "ffconcat version 1.0\nfile a.wav\n"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError):
            load_audio(tmp_path / name)


def test_sound_is_read_block_by_block_and_again(tmp_path: Path) -> None:
    path = write_channels(tmp_path / "a.wav", sine(16_000, 2.0))
    reader = AudioReader(path)
    blocks = list(reader)
    assert len(blocks) > 5 and max(block.shape[1] for block in blocks) <= 8192
    assert torch.equal(torch.cat(blocks, 1), load_audio(path).waveform)
    with open(path, "rb") as file:
        assert torch.equal(load_audio(file).waveform, load_audio(path).waveform)


@pytest.mark.parametrize(("rate", "opposed"), [(16_000, False), (44_100, False), (44_100, True), (22_050, False)])
def test_a_streamed_voice_is_the_same_as_one_read_whole(tmp_path: Path, rate: int, opposed: bool) -> None:
    waves = sine(rate, 1.5, channels=2)
    waves[1] *= -1 if opposed else 0.5
    path = write_channels(tmp_path / "a.wav", waves, rate)
    whole = load_audio(path)
    expected = to_mono_16k(whole.waveform, rate)
    streamed = stream_mono(AudioReader(path))[:]
    assert streamed.shape == expected.shape and torch.allclose(streamed, expected, atol=1e-4)


def test_a_streamed_silence_is_refused_as_one_read_whole(tmp_path: Path) -> None:
    reader = AudioReader(write_channels(tmp_path / "a.wav", np.zeros((1, 16_000))))
    with pytest.raises(AudioError, match="silent"):
        stream_mono(reader)
    assert len(stream_mono(reader, allow_silent=True)) == 16_000


def test_what_is_whole_of_a_damaged_sound_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.mp3", sine(44_100, 3.0), 44_100, "libmp3lame")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 1500] = bytes(1500)
    path.write_bytes(data)
    assert 2.5 < load_audio(path).duration < 3.2


def test_ffmpeg_resamples_where_soxr_is_missing() -> None:
    wave = sine(44_100, channels=2).astype(np.float32)
    out = _resample_by_ffmpeg(wave, 44_100, 16_000)
    assert out.shape[0] == 2 and abs(out.shape[1] - 11_200) < 30
    spectrum = np.abs(np.fft.rfft(out[0, :11_200]))
    assert abs(spectrum.argmax() / 0.7 - 440) < 3


def test_two_sounds_at_once_begin_together_and_last_as_long_as_the_longer() -> None:
    seconds = torch.arange(16_000) / 16_000
    low = Audio(0.3 * torch.sin(2 * torch.pi * 200 * seconds)[None], 16_000)
    high = Audio(0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(96_000) / 48_000).repeat(2, 1), 48_000)
    both = mix(low, high)
    assert both.sample_rate == 16_000 and both.waveform.shape == (2, 32_000)
    assert torch.allclose(both.waveform[:, 20_000:31_000], both.waveform[:1, 20_000:31_000], atol=1e-6)
    first = both.waveform[0, 1000:15_000] - low.waveform[0, 1000:15_000]
    assert (first - 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(1000, 15_000) / 16_000)).abs().max() < 0.01
    assert mix(Audio(torch.ones(1, 4), 16_000), Audio(torch.ones(1, 4), 16_000)).waveform.max() == 1
