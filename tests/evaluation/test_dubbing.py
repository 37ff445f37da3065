"""The measurement of dubbed videos, with stand-ins for the model and the reader: what each number answers to."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.evaluation import dubbing
from mcdm_core.evaluation.own_voice import TalkingClip
from mcdm_core.face.landmarks import NUM_LANDMARKS
from mcdm_core.face.reading.face_mesh import FaceOpenings
from mcdm_core.face.reading.face_track import FaceTrack
from mcdm_core.media.audio import Audio
from mcdm_core.media.video_writer import VideoWriter

FRAMES, SIDE = 20, 64
SQUARE = (32.0, 32.0, 40.0)


def track() -> FaceTrack:
    """A face of 40 pixels in the middle, lost in the last frame; the lower face is its lower quarter's middle."""
    landmarks = torch.full((FRAMES, NUM_LANDMARKS, 2), 0.5)
    landmarks[:, dubbing.OUTLINE[0]] = torch.tensor([0.3, 0.6])
    landmarks[:, dubbing.OUTLINE[3]] = torch.tensor([0.7, 0.9])
    found = torch.arange(FRAMES) < FRAMES - 1
    return FaceTrack(torch.tensor(SQUARE).expand(FRAMES, 3), landmarks, found)


def talking(name: str, opening: torch.Tensor) -> TalkingClip:
    frames = torch.full((FRAMES, 3, SIDE, SIDE), 0.5)
    return TalkingClip(name, frames, torch.zeros(1, 16_000), 16_000, opening)


def test_the_mouth_s_box_is_left_out_and_a_lost_face_has_none() -> None:
    beyond = dubbing.beyond_mouth(track(), SIDE, SIDE)
    assert beyond[-1].all()
    x, y = 12 + 0.5 * 40, 12 + 0.8 * 40  # inside the outline
    assert not beyond[0, int(y), int(x)]
    assert beyond[0, 20, 32] and beyond[0, 10, 10] and beyond[0, 50, 15], "brow, background, beside the cheek"


def test_noise_within_the_mouth_does_not_count_and_beyond_it_does() -> None:
    true = torch.rand(FRAMES, 3, SIDE, SIDE)
    region = dubbing.beyond_mouth(track(), SIDE, SIDE)
    made = torch.where(region[:, None], true, 1 - true)
    assert dubbing.psnr_within(made, true, region) == math.inf
    assert dubbing.psnr_within(true + 0.01, true, region) == pytest.approx(40, abs=1e-3)


@pytest.fixture
def grey(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dub writes the new voice's opening as the grey of its frames, and the reader reads that grey."""

    def write(_, clip: TalkingClip, voice: TalkingClip, path: Path) -> FaceTrack:
        assert voice.opening is not None
        with VideoWriter(path, SIDE, SIDE, 25, Audio(voice.waveform, 16_000), crf=1) as writer:
            writer.write((voice.opening * 0.2 + 0.5)[:, None, None, None].expand_as(clip.frames))
        return track()

    def read(frames) -> FaceOpenings:
        levels = dubbing.np.array([frame.mean() / 255 for frame in frames])
        return FaceOpenings(levels, levels)

    monkeypatch.setattr(dubbing, "write_dubbed", write)
    monkeypatch.setattr(dubbing, "read_lips", read)


@pytest.mark.usefixtures("grey")
def test_lips_are_held_against_the_new_voice_a_third_one_and_the_undubbed_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a, b = torch.rand(FRAMES), torch.rand(FRAMES)
    clips = [talking("a", a), talking("b", b), talking("c", -b)]
    first, second, third = dubbing.measure(None, clips, tmp_path)  # pyright: ignore[reportArgumentType]
    assert first["lip_r"] == pytest.approx(1, abs=0.02) and first["wrong_voice_r"] == pytest.approx(-1, abs=0.02)
    assert first["undubbed_r"] == pytest.approx(float(torch.corrcoef(torch.stack([a, b]))[0, 1]), abs=1e-3)
    assert second["undubbed_r"] == pytest.approx(-1, abs=1e-3)
    assert 10 < float(third["outside_db"]) < 30, "this dub changed the whole picture"
    assert (tmp_path / "a.dubbed.mp4").is_file()


def test_a_control_needs_a_third_clip(tmp_path: Path) -> None:
    with pytest.raises(MCDMError, match="three"):
        dubbing.measure(None, [talking("a", torch.rand(FRAMES))] * 2, tmp_path)  # pyright: ignore[reportArgumentType]


def test_a_rendered_clip_is_dubbed_as_its_video_shows_it(tmp_path: Path) -> None:
    clip = talking("a", torch.rand(FRAMES))
    red_and_blue = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).repeat(SIDE // 2, 1).T
    clip = dataclasses.replace(clip, frames=red_and_blue[None, :, None].expand(FRAMES, 3, SIDE, SIDE))
    shown = dubbing.filmed(clip, tmp_path)
    assert shown.frames.shape == clip.frames.shape and shown.opening is clip.opening
    assert float((shown.frames - clip.frames).abs().mean()) > 0.1, "no video holds such colours"
    again = dubbing.filmed(shown, tmp_path)
    assert float((again.frames - shown.frames).abs().mean()) < 0.05
