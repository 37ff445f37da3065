"""The video writer: sizes, clock, sound, interruption and the synthetic mark."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from mcdm_core.errors import FrameRateError, MediaError
from mcdm_core.media.audio import Audio, load_audio
from mcdm_core.media.video_reader import VideoReader, read_video
from mcdm_core.media.video_writer import SYNTHETIC_NOTE, VideoWriter


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


def test_an_impulse_is_heard_at_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    wave = torch.zeros(1, 32_000)
    wave[:, 24_000:24_040] = 0.9
    with VideoWriter(path, 32, 32, 25, Audio(wave, 16_000)) as writer:
        writer.write(torch.rand(50, 3, 32, 32))
    start, _ = stream_span(path, "audio")
    heard = load_audio(path)
    when = start + heard.waveform[0].abs().argmax().item() / heard.sample_rate
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
    assert abs(lengths[0] - lengths[1]) < 1 / fps


def test_an_odd_size_is_padded_and_colours_survive(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    colour = torch.tensor([0.8, 0.3, 0.2])[:, None, None].expand(3, 33, 47)
    with VideoWriter(path, 47, 33, 25) as writer:
        writer.write(colour)
        writer.write(colour[None].expand(3, -1, -1, -1))
    frames, fps = read_video(path)
    assert frames.shape == (4, 3, 34, 48) and fps == 25
    assert (frames[2, :, 16, 20] - colour[:, 0, 0]).abs().max() < 0.04


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


def test_the_file_says_it_is_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 32, 32, 25) as writer:
        writer.write(torch.rand(2, 3, 32, 32))
    assert VideoReader(path).metadata["comment"] == SYNTHETIC_NOTE


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
    (tmp_path / "a.mp4").write_bytes(b"older")
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
