"""The shipped weights on the shipped samples: a face is found, speaks with the sound and stays the same person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.samples import FOLDER, default_portrait, default_voice

pytestmark = pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
FRAMES = 32


@contextmanager
def zeroed(module: nn.Module) -> Iterator[None]:
    """The module's output (the first of several) is zero: what a component that has learned nothing would give."""

    def nothing(module: nn.Module, given: tuple, made: Tensor | tuple) -> Tensor | tuple:
        return torch.zeros_like(made) if isinstance(made, Tensor) else (torch.zeros_like(made[0]), *made[1:])

    handle = module.register_forward_hook(nothing)
    try:
        yield
    finally:
        handle.remove()


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


def test_the_lips_follow_the_sound_and_the_prior_is_why(shipped, speaking) -> None:
    from mcdm_core.evaluation.lip_sync import LipSync, lip_sync
    from mcdm_core.face.landmarks import lip_opening
    from mcdm_core.media.audio import loudness

    reference, embedding, motion, _ = speaking

    def sync(landmarks: Tensor) -> LipSync:
        sound = loudness(embedding.waveform, embedding.sample_rate, embedding.fps, embedding.num_frames)
        return lip_sync(lip_opening(landmarks), sound, embedding.fps)

    found = sync(motion.landmarks)
    assert found.correlation_at_zero > 0.4 and found.correlation_at_zero > found.control + 0.15
    assert abs(found.lag) <= 0.08
    with zeroed(shipped.model.present_clip_prior):
        # Without noise, which a dead prior would hand on as it is.
        dead = shipped.predict_motion(reference, embedding, temperature=0.0)
    assert lip_opening(dead.landmarks).std() < 0.3 * lip_opening(motion.landmarks).std()
    assert sync(dead.landmarks).correlation_at_zero < found.correlation_at_zero - 0.2


def test_the_pictures_show_the_predicted_lips_and_the_unet_is_why(shipped, speaking) -> None:
    """Correlation alone would not do: a warp of 3 % of the movement reaches 0.94."""
    from mcdm_core.correlation import correlation
    from mcdm_core.evaluation.face_track import track_face
    from mcdm_core.face.landmarks import lip_opening

    reference, _, motion, clips = speaking
    wanted = lip_opening(motion.landmarks[:FRAMES])

    def seen(clips: list) -> Tensor:
        frames = [frame[0] for clip in clips for frame in shipped.finish_frames(reference, clip)]
        return torch.as_tensor(track_face(shipped.model.face_network, frames, reference.transform).lip_opening)

    shown = seen(clips)
    assert correlation(shown, wanted) > 0.7
    length, memory, dead = shipped.config.clip_frames, shipped.start_memory(reference), []
    with zeroed(shipped.model.unet):
        for first in range(0, FRAMES, length):
            clip, memory = shipped.sample_clip(reference, motion[first : first + length], memory)
            dead.append(clip)
    assert (shown - wanted).abs().mean() < 0.5 * (seen(dead) - wanted).abs().mean()


@pytest.fixture(scope="module")
def teeth(shipped, tmp_path_factory):
    """The astronaut's smile, to be painted from the same portrait with its lips warped shut."""
    from mcdm_core.data.real.stills import read_still, still_clip
    from mcdm_core.data.real.video import face_square, label_frames
    from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
    from mcdm_core.training.parts.rows import FrameRows
    from mcdm_core.training.parts.validation import teeth_case

    network, picture = shipped.model.face_network, read_still(FOLDER / "astronaut.jpg")
    square = face_square(network, picture[None])
    labels = label_frames(network, picture[None], square)
    still = (labels[name][0] for name in ("landmarks", "pose", "values"))
    folder, size = tmp_path_factory.mktemp("stills"), shipped.config.image_size
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        clip = still_clip(picture, square, *still, 1, np.random.default_rng(0), size)
        info = dict.fromkeys(INFO_FIELDS, "")
        writer.add(clip, {**info, "source": "still", "fps": 25, "seed": 0, "index": 0})
    rows = FrameRows([folder], shipped.model.motion_codec, size)
    return teeth_case(rows, rows.clips[0], shipped.config.clip_frames)


def test_the_archive_knows_the_teeth_and_its_prior_is_why(shipped, teeth) -> None:
    from mcdm_core.face.part_guide import true_parts
    from mcdm_core.face.parts import MOUTH
    from mcdm_core.pipeline.defaults import sampling_defaults
    from mcdm_core.training.parts.painting import Painter, region_psnr

    painter = Painter(shipped.model, shipped.model.vae, shipped.config, decoder=shipped.model.part_decoder)
    views = painter.views(teeth, teeth.landmarks)
    true = true_parts(teeth.frames[None], views.squares, shipped.config.parts.size)[MOUTH]
    steps = sampling_defaults("tiny").steps

    def mouths(teeth_seen: bool, off: str | None = "gallery") -> Tensor:
        return painter.paint(teeth, off=off, teeth=teeth_seen, steps=steps)[MOUTH]

    def likeness(painted: Tensor) -> float:
        return float(region_psnr(painted, true, views.region[MOUTH]).mean())

    # First without the gallery, which shows the teeth whatever the latents tell.
    seen, alone = mouths(True), mouths(False)
    with zeroed(shipped.model.archived_clip_prior):
        dead = mouths(True)
    # Half of what was seen with the shipped weights and less; a dead prior makes the first two alike.
    apart = 127.5 * ((seen - alone).abs() * views.region[MOUTH]).sum() / (3 * views.region[MOUTH].sum())
    assert apart > 0.3, "in 255ths: what the archive shows is seen in the picture"
    assert likeness(seen) > likeness(alone) + 0.1
    assert likeness(seen) > likeness(dead) + 0.2
    with zeroed(shipped.model.part_decoder.archive):
        assert likeness(seen) > likeness(mouths(True)) + 0.05
    found = likeness(mouths(True, off=None))
    assert found > likeness(seen) + 0.5
    assert found > likeness(painter.most_alike(teeth, views)[MOUTH]) + 0.5


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


@torch.no_grad()
def test_mouths_are_sharp_by_their_own_decoder_which_sees_contours_and_portrait(shipped, speaking, monkeypatch) -> None:
    from mcdm_core.face.parts import MOUTH
    from mcdm_core.training.parts.painting import laplacian_energy

    reference, _, _, clips = speaking
    clip, decoder, memory = clips[1], shipped.model.part_decoder, clips[0].memory
    region = clip.places.regions[:, MOUTH]

    def mouths() -> Tensor:
        return shipped.clips.canvas.decode(reference, clip.latents.transpose(0, 1), clip.places, memory)[MOUTH]

    def apart(other: Tensor) -> float:
        """Mean difference of the painted pixels, of 255."""
        return float(((other - own).abs() * region).sum() / region.sum() / 3 * 127.5)

    own = mouths()
    with zeroed(decoder.shape_in):
        assert apart(mouths()) > 1.0
    with zeroed(decoder.portrait_out[0]), zeroed(decoder.portrait_out[1]):
        assert apart(mouths()) > 3.0
    with zeroed(decoder.portrait_gates[0]), zeroed(decoder.portrait_gates[1]):
        assert apart(mouths()) > 0.3
    with zeroed(decoder.archive):
        assert apart(mouths()) > 0.2
    monkeypatch.setitem(shipped.model._modules, "part_decoder", None)
    assert laplacian_energy(own, region) > 1.15 * laplacian_energy(mouths(), region)
