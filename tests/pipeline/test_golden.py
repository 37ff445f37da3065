"""The shipped weights on the shipped samples: a face is found, speaks with the sound and stays the same person."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.samples import FOLDER, default_portrait, default_voice

pytestmark = pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
FRAMES = 32


@pytest.fixture(scope="module")
def shipped() -> MCDMPipeline:
    return MCDMPipeline.from_preset("tiny")


@pytest.fixture(scope="module")
def speaking(shipped):
    """Reference, motion of the whole voice, and the first two clips."""
    from mcdm_core.media.audio import load_audio
    from mcdm_core.media.portrait import load_portrait

    audio = load_audio(default_voice())
    reference = shipped.encode_reference(load_portrait(default_portrait()))
    embedding = shipped.embed_audio(audio.waveform, audio.sample_rate)
    start = dataclasses.replace(embedding, tokens=embedding.tokens[:FRAMES], num_frames=FRAMES)
    motion = shipped.predict_motion(reference, embedding)
    return reference, embedding, motion, list(shipped.generate(reference, start))


def test_the_lips_follow_the_sound(speaking) -> None:
    from mcdm_core.evaluation.lip_sync import lip_sync, loudness
    from mcdm_core.face.landmarks import lip_opening

    _, embedding, motion, _ = speaking
    sound = loudness(embedding.waveform, embedding.sample_rate, embedding.fps, embedding.num_frames)
    sync = lip_sync(lip_opening(motion.landmarks), sound, embedding.fps)
    assert sync.correlation_at_zero > 0.4 and sync.correlation_at_zero > sync.control + 0.15
    assert abs(sync.lag) <= 0.08


def test_the_pictures_show_the_predicted_lips(shipped, speaking) -> None:
    from mcdm_core.correlation import correlation
    from mcdm_core.evaluation.face_track import track_face
    from mcdm_core.face.landmarks import lip_opening

    reference, _, motion, clips = speaking
    frames = [frame[0] for clip in clips for frame in shipped.finish_frames(reference, clip)]
    track = track_face(shipped.model.face_network, frames, reference.transform)
    assert correlation(track.lip_opening, lip_opening(motion.landmarks[:FRAMES])) > 0.7


def test_the_person_stays_the_same(shipped, speaking) -> None:
    from mcdm_core.evaluation.identity import compare_identity

    reference, _, motion, clips = speaking
    crops = torch.cat([f for clip in clips for f in shipped.finish_frames(reference, clip, paste=False)])
    crops = torch.nn.functional.interpolate(crops, size=reference.crop.shape[-2:], mode="area")
    report = compare_identity(reference.crop, reference.landmarks, crops, motion.landmarks[:FRAMES])
    assert report.ssim_end > 0.75 and report.colour_end < 0.05


def test_a_real_portraits_face_is_found(shipped) -> None:
    from mcdm_core.media.portrait import load_portrait

    left, top, right, bottom = shipped.detect_faces(load_portrait(FOLDER / "astronaut.jpg"))[0]
    assert abs((left + right) / 2 - 223) < 15 and abs((top + bottom) / 2 - 133) < 20 and 60 < right - left < 110
