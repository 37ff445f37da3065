"""Dubbing: the face followed, the mouth alone replaced, lost frames untouched, a stop gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.errors import FaceNotFoundError
from mcdm_core.face.lower_face import lower_face_mask, respoken, with_lips_of
from mcdm_core.face.reading.face_track import track_face
from mcdm_core.media.audio import load_audio
from mcdm_core.media.portrait import limit_size, load_portrait
from mcdm_core.media.video_reader import VideoReader
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.dubbing import dub, fitted_sound, prepare_dubbing
from mcdm_core.samples import FOLDER, default_portrait, default_voice

FPS = 25.0
LOST = (5, 6, 7)


@pytest.fixture(scope="module")
def pipe() -> MCDMPipeline:
    return MCDMPipeline.from_preset("tiny")


@pytest.fixture(scope="module")
def video() -> list[torch.Tensor]:
    """A portrait that drifts through a grey picture for 20 frames and is gone for three of them."""
    portrait = limit_size(load_portrait(default_portrait()), 160)
    height, width = portrait.shape[-2:]
    frames = []
    for index in range(20):
        frame = torch.full((3, height + 40, width + 60), 0.5)
        if index not in LOST:
            left = 10 + index
            frame[:, 20 : 20 + height, left : left + width] = portrait
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def dubbed(pipe: MCDMPipeline, video: list[torch.Tensor]):
    audio = load_audio(default_voice())
    plan = prepare_dubbing(pipe, lambda: video, FPS, audio)
    return plan, list(dub(pipe, plan, video))


def test_a_face_is_followed_and_its_loss_is_known(pipe: MCDMPipeline, video: list[torch.Tensor]) -> None:
    track = track_face(pipe.model.face_network, video)
    found = track.found.tolist()
    assert not any(found[index] for index in LOST) and all(found[:5]) and all(found[-5:])
    x = track.squares[:, 0]
    moved = float(x[-1] - x[0])
    assert abs(moved - 19) < 3, "it moves with the portrait, a pixel a frame"


def test_frames_without_the_face_pass_through_untouched(dubbed, video) -> None:
    frames = torch.cat([clip.frames for clip in dubbed[1]])
    assert len(frames) == len(video)
    for index in LOST:
        assert torch.equal(frames[index], video[index])


def test_only_the_lower_face_changes_and_it_does(dubbed, video) -> None:
    plan, clips = dubbed
    frames = torch.cat([clip.frames for clip in clips])
    for index in (0, 14, 19):  # a face that was lost is looked for again some frames later
        change = (frames[index] - video[index]).abs().amax(0)
        assert change.max() > 0.02, "the mouth speaks"
        x, y, side = plan.track.squares[index].tolist()
        rows, columns = torch.where(change > 0)
        assert rows.min() > y - 0.1 * side, "eyes and brows stay"
        assert columns.min() > x - side / 2 and columns.max() < x + side / 2
        assert (change > 0).float().mean() < 0.25


def test_another_voice_makes_another_mouth(pipe, dubbed, video) -> None:
    silence = fitted_sound(load_audio(default_voice()), 20 / FPS)
    silence = type(silence)(torch.zeros_like(silence.waveform), silence.sample_rate)
    plan = prepare_dubbing(pipe, lambda: video, FPS, silence)
    opening = [motion.values[:, 0].std() for motion in (plan.motion, dubbed[0].motion)]
    assert opening[0] < 0.7 * opening[1], "lips rest where nobody speaks"


def test_a_stopped_dubbing_goes_on_with_the_same_frames(pipe, dubbed, video) -> None:
    plan, clips = dubbed
    rest = list(dub(pipe, plan, video, memory=clips[0].memory, start_frame=len(clips[0].frames)))
    assert torch.equal(torch.cat([clip.frames for clip in rest]), torch.cat([clip.frames for clip in clips[1:]]))


def test_the_written_file_keeps_what_lies_beyond_the_mouth(tmp_path: Path) -> None:
    portrait = limit_size(load_portrait(FOLDER / "astronaut.jpg"), 512)
    given = tmp_path / "given.mp4"
    with VideoWriter(given, 512, 512, FPS, crf=5) as writer:
        for index in range(12):  # a hand-held camera: what stands still alone is coded without loss
            writer.write(torch.roll(portrait, (index % 3, index % 2), (1, 2)))
    assert (
        main(["dub", "--video", str(given), "--audio", str(default_voice()), "--output", str(tmp_path / "a.mp4")]) == 0
    )
    below = slice(256, None)  # the chin ends at row 190
    pairs = zip(VideoReader(tmp_path / "a.mp4"), VideoReader(given), strict=True)
    errors = torch.stack([((one - other)[:, below] ** 2).mean() for one, other in pairs])
    assert -10 * torch.log10(errors.mean()) > 40


def test_a_video_without_a_face_is_refused(pipe: MCDMPipeline) -> None:
    grey = [torch.full((3, 96, 96), 0.5)] * 3
    with pytest.raises(FaceNotFoundError, match="3 frames"):
        prepare_dubbing(pipe, lambda: grey, FPS, load_audio(default_voice()))


def test_a_sound_is_cut_or_filled_up() -> None:
    sound = load_audio(default_voice())
    assert fitted_sound(sound, 1.0).duration == pytest.approx(1.0)
    longer = fitted_sound(sound, sound.duration + 1)
    assert longer.duration == pytest.approx(sound.duration + 1) and longer.waveform[:, -100:].abs().max() == 0


def test_a_face_that_says_the_same_stays_as_it_is() -> None:
    torch.manual_seed(0)
    seen = torch.rand(2, 68, 2)
    moved = seen * 1.1 + 0.05  # the same face, elsewhere in its crop
    assert torch.allclose(respoken(moved, seen), seen, atol=1e-5)
    assert torch.allclose(with_lips_of(moved, seen), seen, atol=1e-5)


def test_the_mask_covers_the_mouth_and_the_chin_and_no_eye(pipe: MCDMPipeline) -> None:
    reference = pipe.encode_reference(load_portrait(default_portrait()))
    points = reference.landmarks[None].cpu()
    mask = lower_face_mask(points, 128)[0, 0]

    def at(number: int) -> float:
        x, y = (points[0, number] * 128).long().clamp(0, 127).tolist()
        return float(mask[y, x])

    assert all(at(number) > 0.99 for number in (*range(20), 54))
    assert all(at(number) == 0 for number in (*range(20, 46), 61, 62, 63))
    assert mask.mean() < 0.35
