"""Each part of the pipeline works alone, without the others."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.face.part_guide import still_parts
from mcdm_core.face.parts import EYES, reference_squares
from mcdm_core.media.pixels import to_bytes
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline import MCDMPipeline, Reference
from mcdm_core.pipeline.audio import AudioEmbedder
from mcdm_core.pipeline.canvas.canvas import build_canvas
from mcdm_core.pipeline.canvas.painting import Painting
from mcdm_core.pipeline.finishing import FrameFinisher
from mcdm_core.pipeline.memory_builder import MemoryBuilder
from mcdm_core.pipeline.prediction import MotionPredictor
from mcdm_core.pipeline.reference import ReferenceEncoder
from mcdm_core.pipeline.sampling import Clip, ClipSampler


def test_the_parts_alone_make_the_pipeline_s_clip(
    pipe: MCDMPipeline, portrait: torch.Tensor, voice: torch.Tensor
) -> None:
    model = pipe.model
    reference = ReferenceEncoder(model, build_canvas(model).still_latents).encode(portrait, (40, 50, 120, 130))
    audio = AudioEmbedder(model).embed(voice[:2560], 16_000)
    memory = MemoryBuilder(model, pipe.fingerprint).start(reference, seed=3)
    motion = MotionPredictor(model).predict(reference, audio, memory, steps=2)
    clip = ClipSampler(model).sample(reference, motion, memory, steps=2)
    finished = torch.cat(list(FrameFinisher(model).finish(reference, clip.painting, motion.landmarks)))
    whole = next(iter(pipe.generate(reference, audio, seed=3, steps=2, motion_steps=2)))
    assert torch.equal(clip.frames, whole.frames) and clip.memory.frame_index == 4
    assert torch.equal(finished, torch.cat(list(pipe.finish_frames(reference, whole))))


def test_motion_that_was_not_decoded_is_decoded_for_the_person(
    pipe: MCDMPipeline, reference: Reference, voice: torch.Tensor
) -> None:
    audio = pipe.embed_audio(voice[:2560], 16_000)
    motion = pipe.predict_motion(reference, audio, steps=1, blinks=False)
    bare = dataclasses.replace(motion, landmarks=None, values=None)
    memory = pipe.start_memory(reference)
    first, second = (pipe.sample_clip(reference, part, memory, steps=1)[0] for part in (motion, bare))
    assert torch.equal(first.frames, second.frames) and second.motion.landmarks is None


def test_details_without_landmarks_are_refused(pipe: MCDMPipeline, reference: Reference) -> None:
    frames = Painting(torch.rand(1, 3, 192, 192))
    with pytest.raises(MCDMError, match="landmarks"):
        FrameFinisher(pipe.model).finish(reference, frames)
    with pytest.raises(MCDMError, match="blur"):
        FrameFinisher(pipe.model).finish(reference, frames, detail="blur")


def test_a_host_may_say_where_to_compute(pipe: MCDMPipeline) -> None:
    assert pipe.device == torch.device("cpu")
    pipe.model.compute_device = torch.device("meta")
    try:
        assert pipe.device == torch.device("meta")
    finally:
        pipe.model.compute_device = None


def test_painted_parts_are_found_again_in_finished_crops(pipe: MCDMPipeline, reference: Reference) -> None:
    """As the nodes do, between which a clip travels as a video of its crops."""
    landmarks = reference.landmarks[None].cpu()
    painting = pipe.finisher.canvas.seen_in(reference, reference.crop[None], landmarks)
    size = pipe.config.parts.size
    assert painting.parts.shape == (1, 2, 3, size, size) and painting.parts.dtype == torch.uint8
    signed = (reference.crop * 2 - 1)[None]
    true = to_bytes(still_parts(signed, reference_squares(landmarks), size))[None]
    assert (painting.parts.int() - true.int()).abs().max() <= 1
    (finished,) = pipe.finish_crops(reference, reference.crop[None], landmarks)
    (still,) = pipe.finish_frames(reference, _clip_of(painting, reference, landmarks))
    assert torch.equal(finished, still)


@pytest.mark.parametrize("paste", [True, False])
def test_frames_in_bytes_are_those_in_floats(
    pipe: MCDMPipeline, reference: Reference, voice: torch.Tensor, paste: bool
) -> None:
    clip = next(iter(pipe.generate(reference, pipe.embed_audio(voice[:2560], 16_000), steps=1, motion_steps=1)))
    fast = torch.cat(list(pipe.finish_frames(reference, clip, paste=paste, in_bytes=True)))
    exact = torch.cat(list(pipe.finish_frames(reference, clip, paste=paste)))
    assert fast.dtype == torch.uint8 and fast.shape == exact.shape
    assert (fast.float() / 255 - exact).square().mean() < 10**-4.5
    # Places found while sampling are those found again from the motion.
    again = torch.cat(list(pipe.finish_frames(reference, dataclasses.replace(clip, places=None), paste=paste)))
    assert torch.allclose(again, exact, atol=1e-4)


def _clip_of(painting: Painting, reference: Reference, landmarks: torch.Tensor) -> Clip:
    motion = Motion(reference.motion_tokens, landmarks, None, 25.0)
    return Clip(0, 0, painting.frames, painting.frames, motion, None, painting.parts)


def test_only_what_is_shown_is_decoded(
    pipe: MCDMPipeline, reference: Reference, voice: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = next(iter(pipe.generate(reference, pipe.embed_audio(voice[:2560], 16_000), seed=1, steps=1, motion_steps=1)))
    assert clip.places is not None
    memory, canvas = pipe.start_memory(reference), pipe.clips.canvas
    latents = clip.latents.transpose(0, 1)
    shown = torch.ones_like(clip.places.regions)
    shown[[0, 2], EYES] = 0
    places = dataclasses.replace(clip.places, shown=shown)
    whole = to_bytes(canvas.decode(reference, latents, places, memory)).transpose(0, 1)
    decoded: list[tuple[int, ...]] = []
    decoder = pipe.model.part_decoder
    networks = pipe.model.vae.decoder if decoder is None else decoder.conv_in
    hook = networks.register_forward_pre_hook(lambda _, given: decoded.append(given[0].shape[0]))
    try:
        painting = canvas.paint(reference, latents, places, memory)
    finally:
        hook.remove()
    assert decoded == [4, 2], "all mouths, and the eyes of two frames"
    assert painting.parts is not None
    seen = torch.ones(4, 2, dtype=torch.bool)
    seen[[0, 2], EYES] = False
    assert (painting.parts.int() - whole.int())[seen].abs().max() <= 1
    assert not torch.equal(painting.parts[~seen], whole[~seen])
    finished = torch.cat(list(pipe.finisher.finish(reference, painting, clip.motion.landmarks, in_bytes=True)))
    same = dataclasses.replace(painting, parts=whole)
    expected = torch.cat(list(pipe.finisher.finish(reference, same, clip.motion.landmarks, in_bytes=True)))
    assert (finished.int() - expected.int()).abs().max() <= 1, "the frames are the same"


def test_a_black_and_white_portrait_speaks_in_black_and_white(
    pipe: MCDMPipeline, portrait: torch.Tensor, voice: torch.Tensor
) -> None:
    audio = pipe.embed_audio(voice[:2560], 16_000)
    box = (40, 50, 120, 130)
    grey = pipe.encode_reference(portrait.mean(0, keepdim=True).expand(3, -1, -1), box)
    assert grey.colourless and not pipe.encode_reference(portrait, box).colourless
    clip = next(iter(pipe.generate(grey, audio, seed=1, steps=1, motion_steps=1)))
    (first, *_) = pipe.finish_frames(grey, clip)
    assert (first.amax(1) - first.amin(1)).max() < 1.5 / 255


def test_what_depends_on_the_portrait_alone_is_decoded_once_a_video(
    pipe: MCDMPipeline, reference: Reference, voice: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    whole = pipe.model.motion_codec.decode

    def count(tokens, still, landmarks):
        decoded.append(tokens.head.shape[1])
        return whole(tokens, still, landmarks)

    monkeypatch.setattr(pipe.model.motion_codec, "decode", count)
    predictor, motion = MotionPredictor(pipe.model), pipe.predict_motion(reference, pipe.embed_audio(voice, 16_000))
    memory, rows = pipe.start_memory(reference), []
    for part in motion.clips(4)[:3]:
        decoded.clear()
        predictor.decode(reference, part.tokens, 25.0, memory)
        rows.append(sum(decoded))
    assert rows[0] > 60 and rows[1:] == [4, 4]
    # Another portrait has lids and lips of its own.
    tokens = reference.motion_tokens.map(lambda stream: stream + 0.5)
    other = dataclasses.replace(reference, motion_tokens=tokens, landmarks=reference.landmarks * 1.01)
    fresh = MotionPredictor(pipe.model).decode(other, motion.tokens, 25.0, memory)
    again = predictor.decode(other, motion.tokens, 25.0, memory)
    assert torch.equal(fresh.landmarks, again.landmarks) and torch.equal(fresh.values, again.values)


@pytest.mark.parametrize("shared", [True, False])
def test_the_clips_of_a_video_share_their_noise_where_the_weights_say_so(
    pipe: MCDMPipeline, reference: Reference, voice: torch.Tensor, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    sampler, seen = ClipSampler(pipe.model), []
    sampler.diffusion.shared_noise = shared
    sample = sampler.diffusion.sample

    def watched(network, noise: torch.Tensor, *rest) -> torch.Tensor:
        seen.append(noise)
        return sample(network, noise, *rest)

    monkeypatch.setattr(sampler.diffusion, "sample", watched)
    motion = pipe.predict_motion(reference, pipe.embed_audio(voice[:2560], 16_000), seed=3)
    memory = pipe.start_memory(reference, seed=3)
    following = sampler.sample(reference, motion, memory, steps=1).memory
    sampler.sample(reference, motion, following, steps=1)
    sampler.sample(reference, motion, pipe.start_memory(reference, seed=4), steps=1)
    first, second, other = seen
    assert torch.equal(first, second) is shared and torch.equal(first[:, 0], first[:, 1]) is shared
    assert not torch.equal(first, other), "another seed is another texture"
