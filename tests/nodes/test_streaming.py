"""Run folders, joining of clips, requests to stop and conversions: what lies behind the nodes and needs no ComfyUI."""

from __future__ import annotations

import importlib
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from .fixtures import counted_frames, pack_module, tone

media_bridge = pack_module("comfy.media.media_bridge")
run_folder = importlib.import_module("mcdm_pack_under_test.mcdm_core.pipeline.run.run_folder")
run_key = importlib.import_module("mcdm_pack_under_test.mcdm_core.pipeline.run.run_key").run_key
Audio = media_bridge.Audio


class Video:
    """The part of ComfyUI's VIDEO that the nodes use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_stream_source(self) -> str:
        return str(self.path)


class Saved:
    """A stand-in for a memory or a motion: it can save itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path: str) -> None:
        Path(path).write_text(self.text)


def filled(path: Path, sizes: list[int], sound: Any) -> Any:
    """A run folder with clips of these lengths."""
    run = run_folder.RunFolder(path)
    for size in sizes:
        first = run.frames
        piece = media_bridge.audio_of_frames(sound, first, size, 25)
        after, motion = Saved(f"after {len(run.clips)}"), Saved(f"motion {len(run.clips)}")
        run.add(counted_frames(first, size), 25, piece, {"lip_opening": [0.0] * size}, after, motion)
    return run


def test_joined_clips_keep_every_frame_in_order_and_time(tmp_path: Path) -> None:
    import av

    sound = tone(1.7)
    joined = filled(tmp_path / "run", [16, 16, 10], sound).join(25, sound)
    with av.open(str(joined)) as container:
        frames = list(container.decode(container.streams.video[0]))
    assert [round(frame.time * 25) for frame in frames] == list(range(42))
    levels = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert all(abs(level - (20 + 4 * index)) < 2.5 for index, level in enumerate(levels))


@pytest.mark.parametrize("fps", [25.0, 24.0, 29.97, 12.5])
@pytest.mark.parametrize("sizes", [[1], [2], [16, 1], [16, 2], [16, 16, 3], [16, 16, 16, 2], [1, 16, 5]], ids=str)
def test_joined_clips_have_one_constant_rate(tmp_path: Path, sizes: list[int], fps: float) -> None:
    import av

    torch.manual_seed(0)
    moving = torch.nn.functional.interpolate(torch.rand(1, 1, 16, 16 + sum(sizes)), scale_factor=4)[0].expand(3, -1, -1)
    run = run_folder.RunFolder(tmp_path / "run")
    for size in sizes:  # a picture that moves, so that the encoder uses B-frames
        offsets = [4 * number for number in range(run.frames, run.frames + size)]
        frames = torch.stack([moving[:, :, at : at + 64] for at in offsets])
        run.add(frames, fps, None, {}, Saved(""), Saved(""))
    joined = run.join(fps, None)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(joined)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == stream.guessed_rate == rate
        assert abs(stream.duration * stream.time_base - sum(sizes) / rate) < Fraction(1, 1000)
        frames = list(container.decode(stream))
    assert [round(frame.time * rate) for frame in frames] == list(range(sum(sizes)))
    for number, frame in enumerate(frames):
        shown = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255
        assert (shown - moving[:, :, 4 * number : 4 * number + 64]).abs().mean() < 0.05, f"frame {number} is another"


def test_joined_lengths_of_up_to_three_clips_are_exact(tmp_path: Path) -> None:
    import av

    for length in range(1, 49):
        sizes = [16] * (length // 16) + [length % 16] * (length % 16 > 0)
        joined = filled(tmp_path / str(length), sizes, tone(length / 25)).join(25, tone(length / 25))
        with av.open(str(joined)) as container:
            stream = container.streams.video[0]
            assert (stream.average_rate, stream.frames) == (25, length)
            assert stream.duration * stream.time_base == Fraction(length, 25)
        assert media_bridge.video_rate(Video(joined)) == 25.0


def test_joined_sound_is_as_long_as_the_picture_and_has_no_gap_at_seams(tmp_path: Path) -> None:
    import av
    import numpy as np

    sound = tone(1.68)
    joined = filled(tmp_path / "run", [16, 16, 10], sound).join(25, sound)
    with av.open(str(joined)) as container:
        stream = container.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)[0]
        assert abs(float(stream.duration * stream.time_base) - 42 / 25) < 1 / 25
    steady = samples[4000 : round(1.6 * 44_100)]
    loudness = np.abs(steady[: len(steady) // 441 * 441].reshape(-1, 441)).max(1)
    assert loudness.min() > 0.2


def test_finished_clips_are_taken_over_with_their_memory(tmp_path: Path) -> None:
    filled(tmp_path / "run", [16, 16, 10], tone(2)).close()
    again = run_folder.RunFolder(tmp_path / "run")
    assert again.frames == 42 and again.memory_path(3).read_text() == "after 2"
    assert again.memory_path(2).exists() and not again.memory_path(1).exists(), "only the last two are kept"
    again.close()
    assert run_folder.RunFolder(tmp_path / "run", resume=False).frames == 0


@pytest.mark.parametrize(
    ("harm", "left"), [("clip", 16), ("motion", 0), ("memory", 16), ("cut", 16), ("field", 0), ("byte", 16)]
)
def test_a_damaged_run_goes_on_after_its_last_good_clip(
    tmp_path: Path, harm: str, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = filled(tmp_path / "run", [16, 16], tone(2))
    run.close()
    journal = tmp_path / "run" / run_folder.JOURNAL
    if harm == "clip":
        run.clip_path(1).unlink()
    elif harm == "motion":
        run.motion_path(0).unlink()
    elif harm == "memory":
        run.memory_path(2).unlink()
    elif harm == "cut":
        journal.write_text(journal.read_text()[:-20])
    elif harm == "byte":
        data = bytearray(run.clip_path(1).read_bytes())
        data[len(data) // 2] ^= 1
        run.clip_path(1).write_bytes(data)
    else:
        journal.write_text(journal.read_text().replace("frames", "feet"))
    again = run_folder.RunFolder(tmp_path / "run")
    assert again.frames == left and again.taken == left // 16
    assert "damaged" in caplog.text
    with pytest.raises(media_bridge.MediaError, match="at this moment"):
        run_folder.RunFolder(tmp_path / "run")
    again.close()
    caplog.clear()
    assert run_folder.RunFolder(tmp_path / "run").frames == left and not caplog.text


def test_a_half_written_clip_is_not_counted(tmp_path: Path) -> None:
    run = filled(tmp_path / "run", [16], tone(2))

    class Failing(Saved):
        def save(self, path: str) -> None:
            raise OSError("no space left")

    for memory, motion in ((Failing(""), Saved("")), (Saved(""), Failing(""))):
        with pytest.raises(OSError):
            run.add(counted_frames(16, 16), 25, None, {}, memory, motion)
    run.close()
    assert run_folder.RunFolder(tmp_path / "run").frames == 16


def test_run_key_depends_on_every_part() -> None:
    base: tuple[Any, ...] = (torch.arange(4.0), {"steps": 4, "seed": 1}, "a", 25.0)
    key = run_key(*base)
    assert key == run_key(torch.arange(4.0), {"seed": 1, "steps": 4}, "a", 25.0)
    others = [
        (torch.arange(4.0) + 1, *base[1:]),
        (base[0], {"steps": 5, "seed": 1}, *base[2:]),
        (base[0].reshape(2, 2), *base[1:]),
        (base[0].half(), *base[1:]),
        (*base[:2], "b", 25.0),
        (*base[:3], 24.0),
    ]
    assert len({key, *(run_key(*other) for other in others)}) == 7


def test_video_is_read_in_chunks_and_from_its_end(tmp_path: Path) -> None:
    sound = tone(1.68)
    video = Video(filled(tmp_path / "run", [16, 16, 10], sound).join(25, sound))
    assert [len(chunk) for chunk in media_bridge.iterate_video(video, 20)] == [20, 20, 2]
    last = media_bridge.last_frames(video, 5)
    assert torch.allclose(last.mean((1, 2, 3)) * 255, torch.arange(37, 42) * 4.0 + 20, atol=2.5)
    assert media_bridge.video_rate(video) == 25
    assert abs(media_bridge.video_audio(video).duration - 1.68) < 0.05


def test_a_video_of_frames_in_memory_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held:
        """ComfyUI's VideoFromComponents, whose stream would be an encoded copy and needs even sides."""

        def get_components(self) -> Any:
            images = counted_frames(0, 20, size=33).movedim(1, -1)
            sound = {"waveform": torch.ones(1, 2, 800), "sample_rate": 1000}
            return SimpleNamespace(images=images, audio=sound, frame_rate=Fraction(25))

    api = SimpleNamespace(InputImpl=SimpleNamespace(VideoFromComponents=Held))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", api)
    chunks = list(media_bridge.iterate_video(Held(), 16))
    assert [chunk.shape[0] for chunk in chunks] == [16, 4]
    assert torch.equal(torch.cat(chunks), counted_frames(0, 20, size=33))
    assert media_bridge.video_rate(Held()) == 25.0
    assert media_bridge.video_audio(Held()).waveform.shape == (2, 800)


@pytest.mark.parametrize("ask", ["video_rate", "video_audio", "all_frames"])
def test_a_damaged_video_is_explained(tmp_path: Path, ask: str) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no mp4 at all" * 100)
    with pytest.raises(media_bridge.MediaError, match="Save it as mp4") as caught:
        getattr(media_bridge, ask)(Video(damaged))
    assert "Errno" not in str(caught.value)


def test_image_conversion_takes_grey_and_transparency_and_refuses_others() -> None:
    assert media_bridge.image_to_frames(torch.rand(2, 8, 9, 3)).shape == (2, 3, 8, 9)
    assert media_bridge.image_to_frames(torch.rand(8, 9, 1)).shape == (1, 3, 8, 9)
    clear = torch.zeros(1, 4, 4, 4)
    assert torch.allclose(media_bridge.image_to_frames(clear), torch.full((1, 3, 4, 4), 0.5))
    with pytest.raises(media_bridge.MediaError, match="Load Image"):
        media_bridge.image_to_frames(torch.rand(1, 3, 8, 9))


def test_audio_inputs_that_cannot_be_used_are_explained() -> None:
    with pytest.raises(media_bridge.AudioError, match="no sound"):
        media_bridge.audio_to_core(None)
    with pytest.raises(media_bridge.AudioError, match="no sound"):
        media_bridge.audio_to_core({"waveform": torch.zeros(1, 2, 0), "sample_rate": 44_100})
    with pytest.raises(media_bridge.AudioError, match="after the end"):
        media_bridge.cut_audio(tone(1.0), 2.0, 0)


def test_sound_of_frames_is_exact_and_padded() -> None:
    sound = Audio(torch.arange(44_100).float()[None] / 44_100, 44_100)
    piece = media_bridge.audio_of_frames(sound, 20, 10, 25)
    assert piece.waveform.shape[1] == round(0.4 * 44_100)
    assert piece.waveform[0, 0] == sound.waveform[0, round(0.8 * 44_100)]
    assert piece.waveform[0, -1] == 0, "silence after the end"


def test_peaks_follow_the_loudness() -> None:
    waveform = torch.zeros(1, 16_000)
    waveform[0, 8_000:] = 0.5
    peaks = media_bridge.waveform_peaks(Audio(waveform, 16_000), 25, 25.0)
    assert len(peaks) == 100 and max(peaks[:49]) == 0 and min(peaks[51:]) == 0.5


def test_motions_of_the_clips_are_joined_also_after_a_restart(tmp_path: Path) -> None:
    motion = importlib.import_module("mcdm_pack_under_test.mcdm_core.motion.motion")
    tokens = importlib.import_module("mcdm_pack_under_test.mcdm_core.models.motion_codec").MotionTokens
    whole = motion.Motion(
        tokens(*(torch.rand(26, n, 8) for n in (2, 3, 1))), torch.rand(26, 68, 2), torch.rand(26, 16), 25.0
    )
    run = run_folder.RunFolder(tmp_path / "run")
    for first, size in ((0, 16), (16, 10)):
        run.add(counted_frames(first, size), 25, None, {}, Saved("memory"), whole[first : first + size])
    run.close()
    joined = run_folder.RunFolder(tmp_path / "run").motion()
    assert len(joined) == 26 and joined.fps == 25
    assert torch.equal(joined.landmarks, whole.landmarks) and torch.equal(joined.values, whole.values)
    assert torch.equal(joined.tokens.lip, whole.tokens.lip)


def test_every_layer_asks_for_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = pack_module("comfy.interruption")
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Linear(3, 3)))
    asked: list[int] = []

    class Management(ModuleType):
        @staticmethod
        def throw_exception_if_processing_interrupted() -> None:
            asked.append(1)
            if len(asked) == 5:
                raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "comfy.model_management", Management("comfy.model_management"))
    with interruption.interruptible(model):
        model(torch.rand(2, 3))
        assert len(asked) == 3
        with pytest.raises(KeyboardInterrupt):
            model(torch.rand(2, 3))
    model(torch.rand(2, 3))
    assert len(asked) == 5, "taken back"
