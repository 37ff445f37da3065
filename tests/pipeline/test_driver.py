"""A driver's head movement: rates, length, the portrait's own face, and the whole way with the shipped weights."""

from __future__ import annotations

import math

import pytest
import torch

from mcdm_core.correlation import correlation
from mcdm_core.errors import FaceNotFoundError, MediaError
from mcdm_core.evaluation.face_track import track_face
from mcdm_core.pipeline import preset_weights
from mcdm_core.pipeline.driver import driver_landmarks, onto_reference, read_landmarks, there_and_back


def test_a_short_driver_is_played_there_and_back() -> None:
    landmarks = torch.arange(3.0)[:, None, None].expand(-1, 68, 2)
    assert there_and_back(landmarks, 8)[:, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert there_and_back(landmarks, 2)[:, 0, 0].tolist() == [0, 1]
    assert there_and_back(landmarks[:1], 3)[:, 0, 0].tolist() == [0, 0, 0]


def test_the_portrait_keeps_its_shape_and_takes_the_movement() -> None:
    reference, driver = torch.rand(68, 2), torch.rand(1, 68, 2) * 0.5
    moved = onto_reference(torch.cat([driver, driver + 0.1]), reference)
    assert torch.allclose(moved[0], reference)
    scale = (reference[:, 0].max() - reference[:, 0].min()) / (driver[0, :, 0].max() - driver[0, :, 0].min())
    assert torch.allclose(moved[1], reference + 0.1 * scale, atol=1e-5)


def test_unusable_drivers_are_named(pipe, reference, monkeypatch) -> None:
    with pytest.raises(MediaError, match="no frames"):
        read_landmarks(pipe.model.face_network, [])
    monkeypatch.setattr(type(pipe.model.face_network), "detect", lambda self, image, **kwargs: [])
    with pytest.raises(FaceNotFoundError, match="driver's first 2 frames"):
        driver_landmarks(pipe, reference, [torch.zeros(3, 40, 50)] * 2, 4)


def test_only_what_is_needed_is_read(pipe, reference, monkeypatch) -> None:
    monkeypatch.setattr(type(pipe), "detect_faces", lambda self, image: [(40.0, 50.0, 120.0, 130.0)])
    read: list[int] = []

    def frames():
        for index in range(100):
            read.append(index)
            yield reference.image

    landmarks = driver_landmarks(pipe, reference, frames(), 5)
    assert landmarks.shape == (5, 68, 2) and len(read) <= 6
    assert torch.allclose(landmarks, reference.landmarks.expand(5, -1, -1), atol=1e-4)


def test_the_head_rests_until_the_driver_shows_a_face(pipe, reference, monkeypatch) -> None:
    seen: list[float] = []

    def detect(self, image, **kwargs):
        seen.append(float(image.mean()))
        return [(40.0, 50.0, 120.0, 130.0)] if image.mean() > 0.1 else []

    monkeypatch.setattr(type(pipe), "detect_faces", detect)
    shifted = torch.roll(reference.image, 9, -1)
    frames = [torch.zeros_like(reference.image)] * 4 + [reference.image] * 3 + [shifted] * 3
    landmarks = driver_landmarks(pipe, reference, frames, 10)
    assert len(seen) == 3 and landmarks.shape == (10, 68, 2)
    assert torch.allclose(landmarks[:7], reference.landmarks.expand(7, -1, -1), atol=1e-6)
    assert not torch.allclose(landmarks[7], reference.landmarks, atol=1e-5)


def tipped(image: torch.Tensor, angle: float, shift: float) -> torch.Tensor:
    """The picture ``[3, h, w]`` turned by ``angle`` (radians) and moved to the right by a part of its width."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[cos, sin, -2 * shift], [-sin, cos, 0.0]])[None]
    grid = torch.nn.functional.affine_grid(matrix, [1, *image.shape], align_corners=False)
    return torch.nn.functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_the_generated_head_follows_the_driver() -> None:
    from mcdm_core.media.audio import load_audio
    from mcdm_core.media.portrait import load_portrait
    from mcdm_core.pipeline import MCDMPipeline
    from mcdm_core.samples import default_portrait, default_voice

    pipe = MCDMPipeline.from_preset("tiny")
    portrait, voice = load_portrait(default_portrait()), load_audio(default_voice())
    reference = pipe.encode_reference(portrait)
    audio = pipe.embed_audio(voice.waveform[:, : 2 * voice.sample_rate], voice.sample_rate)
    time = torch.arange(32) / 32 * 2 * math.pi
    roll, shift = 0.15 * torch.sin(time), 0.03 * torch.sin(2 * time)
    driver = [tipped(portrait, float(a), float(s)) for a, s in zip(roll, shift, strict=True)]
    landmarks = driver_landmarks(pipe, reference, driver, audio.num_frames)
    frames = []
    for clip in pipe.generate(reference, audio, seed=0, landmarks=landmarks):
        frames += list(clip.frames)
        if len(frames) >= 32:
            break
    pose = track_face(pipe.model.face_network, frames[:32]).pose
    shown = track_face(pipe.model.face_network, driver, reference.transform).pose
    assert abs(correlation(shown[:, 2], roll)) > 0.9
    assert correlation(pose[:, 2], shown[:, 2]) > 0.8
    assert correlation(pose[:, 3], shown[:, 3]) > 0.5
