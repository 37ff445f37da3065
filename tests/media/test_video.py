"""The video writer: sizes, clock, sound, interruption and the synthetic mark."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from mcdm_core.errors import FrameRateError, MediaError, OutOfMemoryError
from mcdm_core.media.audio import Audio, load_audio
from mcdm_core.media.audio_reader import AudioReader
from mcdm_core.media.joining import join_clips
from mcdm_core.media.transparency.provenance import SYNTHETIC_NOTE, read_provenance
from mcdm_core.media.video_reader import VideoReader, _Clock, read_video, shown_at
from mcdm_core.media.video_writer import VideoWriter


def tone(seconds: float, rate: int, channels: int = 1) -> Audio:
    t = torch.arange(int(seconds * rate)) / rate
    return Audio(0.3 * torch.sin(2 * torch.pi * 300 * t)[None].repeat(channels, 1), rate)


def stream_span(path: Path, kind: str) -> tuple[float, float]:
    """Time of a stream's first and last decoded sample in seconds."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        frames = list(container.decode(stream))
        first = float(frames[0].pts * frames[0].time_base)
        if kind == "audio":
            return first, first + sum(f.samples for f in frames) / frames[0].sample_rate
        return first, float(frames[-1].pts * frames[-1].time_base + 1 / stream.average_rate)


@pytest.mark.parametrize(("rate", "channels", "fps"), [(16_000, 1, 25), (44_100, 2, 30), (11_111, 1, 29.97)])
def test_sound_and_picture_start_and_end_together(tmp_path: Path, rate: int, channels: int, fps: float) -> None:
    path = tmp_path / "a.mp4"
    count = round(2.3 * fps)
    with VideoWriter(path, 32, 32, fps, tone(2.3, rate, channels)) as writer:
        for _ in range(count):
            writer.write(torch.rand(1, 3, 32, 32))
    picture, sound = stream_span(path, "video"), stream_span(path, "audio")
    assert abs(picture[0] - sound[0]) < 1 / fps
    assert abs(picture[1] - sound[1]) < 1.5 / fps
    assert picture[1] - picture[0] == pytest.approx(count / float(Fraction(fps).limit_denominator(1001)), abs=0.002)


@pytest.mark.parametrize("rate", [16_000, 11_111])
def test_a_sound_track_is_read_along_with_its_file(tmp_path: Path, rate: int) -> None:
    source = tmp_path / "a.wav"
    with wave.open(str(source), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone(2.0, rate).waveform[0] * 32767).short().numpy().tobytes())
    tracks = []
    for name, audio in {"b.mp4": load_audio(source), "c.mp4": AudioReader(source)}.items():
        with VideoWriter(tmp_path / name, 32, 32, 25, audio) as writer:
            writer.write(torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        tracks.append(load_audio(tmp_path / name))
    assert tracks[0].sample_rate == tracks[1].sample_rate
    length = min(track.waveform.shape[1] for track in tracks)
    assert abs(tracks[0].waveform.shape[1] - length) + abs(tracks[1].waveform.shape[1] - length) <= 1024
    assert (tracks[0].waveform[:, 4000 : length // 2] - tracks[1].waveform[:, 4000 : length // 2]).std() < 0.01


@pytest.mark.parametrize("side", [160, 192])
def test_the_same_frames_make_the_same_file(tmp_path: Path, side: int) -> None:
    draw = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 9, 9, generator=draw), size=(side, side), mode="bicubic")
    frames = (smooth + 0.1 * torch.rand(6, 3, side, side, generator=draw)).clamp(0, 1)
    files, held = set(), []
    for run in range(30):
        held = [*held[-6:], torch.full((1000 + 37 * run**2,), float(run))]  # other remains in what is allocated next
        with VideoWriter(tmp_path / "a.mp4", side, side, 25) as writer:
            writer.write(frames)
        files.add((tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1


def test_an_impulse_is_heard_at_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    wave = torch.zeros(1, 32_000)
    wave[:, 24_000:24_040] = 0.9
    with VideoWriter(path, 32, 32, 25, Audio(wave, 16_000)) as writer:
        writer.write(torch.rand(50, 3, 32, 32))
    start, _ = stream_span(path, "audio")
    sound = load_audio(path)
    when = start + sound.waveform[0].abs().argmax().item() / sound.sample_rate
    assert abs(when - 1.5) < 0.04


def test_long_videos_keep_in_step(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    fps, seconds = 9.99, 600
    count = round(seconds * Fraction(fps).limit_denominator(1001))
    with VideoWriter(path, 16, 16, fps, Audio(torch.zeros(1, seconds * 8000), 8000)) as writer:
        frames = torch.zeros(200, 3, 16, 16)
        while writer.frames_written < count:
            writer.write(frames[: min(200, count - writer.frames_written)])
    with av.open(str(path)) as container:
        lengths = [float(s.duration * s.time_base) for s in container.streams]
    # Some FFmpegs count the sound's last block of 1,024 samples in full.
    assert abs(lengths[0] - lengths[1]) < max(1 / fps, 1025 / 8000)


def test_an_odd_size_is_padded_and_colours_survive(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    colour = torch.tensor([0.8, 0.3, 0.2])[:, None, None].expand(3, 33, 47)
    with VideoWriter(path, 47, 33, 25) as writer:
        writer.write(colour)
        writer.write(colour[None].expand(2, -1, -1, -1))
        writer.write((colour[None] * 255).round().byte())
    frames, fps = read_video(path)
    assert frames.shape == (4, 3, 34, 48) and fps == 25
    assert (frames[2:, :, 16, 20] - colour[:, 0, 0]).abs().max() < 0.04


def test_an_interrupted_video_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 32, 32, 25, tone(10, 16_000)) as writer:
        writer.write(torch.rand(40, 3, 32, 32))
        raise KeyboardInterrupt
    assert not path.exists(), "only a finished video takes its place"
    path = path.with_name("a.part.mp4")
    assert len(list(VideoReader(path))) == 40
    assert abs(stream_span(path, "audio")[1] - 1.6) < 0.06


def test_a_killed_writer_leaves_a_playable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 64, 64, 25, tone(10, 16_000))
    for _ in range(8):
        writer.write(torch.rand(25, 3, 64, 64))
    copy = tmp_path / "b.mp4"
    copy.write_bytes(writer.part.read_bytes())  # what a crash would leave on disk
    assert len(list(VideoReader(copy))) >= 50
    writer.close()


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN])
def test_an_encoder_without_memory_says_that_and_not_that_the_disk_is_full(tmp_path, monkeypatch, number) -> None:
    """EAGAIN is what x264 says that cannot start its threads; nodes then make room and go on."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")

    def encode(self, frames) -> None:
        raise av.error.FFmpegError(number, os.strerror(number))

    monkeypatch.setattr(VideoWriter, "_encode", encode)
    with pytest.raises(OutOfMemoryError, match="Close other programs"), VideoWriter(path, 32, 32, 25) as w:
        w.write(torch.rand(2, 3, 32, 32))
    assert (tmp_path / "a.mp4").read_bytes() == b"older"


def test_the_file_says_it_is_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 32, 32, 25) as writer:
        writer.write(torch.rand(2, 3, 32, 32))
    assert VideoReader(path).metadata["comment"] == SYNTHETIC_NOTE
    assert read_provenance(path).synthetic and "trainedAlgorithmicMedia" in str(read_provenance(path).notes)
    join_clips([path, path], tmp_path / "b.mp4", 25, None)
    assert read_provenance(tmp_path / "b.mp4").synthetic
    with VideoWriter(tmp_path / "c.mp4", 64, 64, 25) as writer:  # as an upscaler writes it anew
        for frame in VideoReader(tmp_path / "b.mp4"):
            writer.write(frame.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert read_provenance(tmp_path / "c.mp4").synthetic
    with av.open(str(path)) as source, av.open(str(tmp_path / "d.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert not read_provenance(tmp_path / "d.mp4").synthetic


def test_tags_that_are_no_utf_8_are_read_and_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 32, 32, 25) as writer:
        writer.write(torch.zeros(2, 3, 32, 32))
    note = SYNTHETIC_NOTE.encode()
    path.write_bytes(path.read_bytes().replace(note, note[:-4] + b"caf\xe9"))
    assert VideoReader(path).fps == 25
    notes = read_provenance(path).notes
    assert notes and all("caf\N{REPLACEMENT CHARACTER}" in note for note in notes.values())
    "".join(notes.values()).encode()


def test_a_finished_video_replaces_an_older_one_and_a_failed_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "voice:1 10%20b?.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError), VideoWriter(path, 32, 32, 25) as writer:
        writer.write(torch.rand(3, 3, 32, 32))
        assert path.read_bytes() == b"older"
        raise RuntimeError
    assert path.read_bytes() == b"older"
    with VideoWriter(path, 32, 32, 25) as writer:
        writer.write(torch.rand(2, 3, 32, 32))
    assert len(list(VideoReader(path))) == 2 and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")
def test_a_full_disk_is_one_of_our_errors_and_leaves_the_older_file(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk; in a process of its own, which alone is limited."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    script = (
        "import resource, sys, torch\n"
        "from mcdm_core.errors import MediaError\n"
        "from mcdm_core.media.video_writer import VideoWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    with VideoWriter(sys.argv[1], 256, 256, 25) as writer:\n"
        "        for _ in range(100):\n"
        "            writer.write(torch.rand(10, 3, 256, 256))\n"
        "except MediaError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.mp4")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert (tmp_path / "a.mp4").read_bytes() == b"older"


def test_an_unused_writer_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    VideoWriter(path, 32, 32, 25).close()
    assert not path.exists()


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(FrameRateError):
        VideoWriter(tmp_path / "a.mp4", 32, 32, 0)
    with VideoWriter(tmp_path / "b.mp4", 32, 32, 25) as writer, pytest.raises(MediaError, match="32x32"):
        writer.write(torch.rand(1, 3, 16, 16))
    with pytest.raises(MediaError):
        VideoReader(tmp_path / "missing.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 20)
    with pytest.raises(MediaError, match="broken.mp4"):
        VideoReader(broken)


def test_frames_are_taken_at_the_time_they_are_shown() -> None:
    def even(count: int, rate: float) -> list[tuple[float, int]]:
        return [(k / rate, k) for k in range(count)]

    assert list(shown_at(even(8, 25), 25)) == list(range(8))
    assert list(shown_at(even(8, 50), 25, 1 / 50)) == [0, 2, 4, 6]
    assert list(shown_at(even(8, 12.5), 25, 1 / 12.5)) == [k // 2 for k in range(16)]
    assert list(shown_at(even(8, 30), 25))[:6] == [0, 1, 2, 3, 4, 6]
    assert list(shown_at([], 25)) == []
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(FrameRateError):
            list(shown_at(even(3, 25), rate))


def test_a_clock_goes_on_over_missing_and_senseless_time_stamps() -> None:
    clock = _Clock(0.04)
    stamps = [5.0, 5.04, None, 5.12, 1e12, 1e12 + 0.04, -7.0, None]
    assert [round(clock.read(stamp), 2) for stamp in stamps] == [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28]


def variable_rate(path: Path) -> list[float]:
    """A video of 60 and then 10 frames a second, whose brightness is its time; the times of its frames."""
    times = [k / 60 for k in range(60)] + [1 + k / 10 for k in range(30)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 600)
        stream.codec_context.time_base = Fraction(1, 600)
        for time in times:
            frame = av.VideoFrame.from_ndarray(torch.full((32, 32, 3), 20 + round(time * 50)).byte().numpy())
            frame.pts, frame.time_base = round(time * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return times


def test_a_variable_frame_rate_is_followed_by_its_time_stamps(tmp_path: Path) -> None:
    variable_rate(tmp_path / "10:30.mp4")
    reader = VideoReader(tmp_path / "10:30.mp4")
    shown = [(float(frame.mean()) * 255 - 20) / 50 for frame in reader.at_rate(25)]
    assert abs(len(shown) - 100) <= 3
    lag = [k / 25 - time for k, time in enumerate(shown[:99])]
    assert min(lag) > -0.05 and max(lag) < 0.13, "a frame of the slow part is shown for a tenth of a second"


def test_a_turned_video_stands_upright() -> None:
    reader = VideoReader(Path(__file__).parent / "inputs" / "phone_rotated.mp4")
    frame = next(iter(reader))
    assert frame.shape == (3, reader.height, reader.width) and reader.height > reader.width


def test_a_segment_is_read_of_a_file_and_of_a_stream(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 32, 32, 25, tone(2, 16_000)) as writer:
        writer.write(torch.linspace(0, 1, 50)[:, None, None, None].expand(-1, 3, 32, 32))
    segment = list(VideoReader(tmp_path / "a.mp4", start=0.4, duration=0.2))
    assert len(segment) == 5 and abs(float(segment[0].mean()) - 10 / 49) < 0.02
    with open(tmp_path / "a.mp4", "rb") as file:
        reader = VideoReader(file, name="the stream")
        assert len(list(reader)) == len(list(reader)) == 50


def test_frames_that_change_their_size_are_brought_to_the_first_one_s(tmp_path: Path) -> None:
    for side in (32, 64):
        with av.open(str(tmp_path / f"{side}.h264"), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(torch.full((side, side, 3), 99).byte().numpy())
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    parts = [(tmp_path / f"{side}.h264").read_bytes() for side in (32, 64)]
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    frames, _ = read_video(tmp_path / "both.h264")
    assert frames.shape == (10, 3, 32, 32)
