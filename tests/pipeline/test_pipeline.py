"""The pipeline: clips, continuation, determinism, constant memory, and inputs that cannot be used."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.errors import AudioError, FaceNotFoundError, FaceTooSmallError, MCDMError, WeightsError
from mcdm_core.face.reading.face_network import FaceBox
from mcdm_core.pipeline import MCDMPipeline

SETTINGS = {"steps": 2, "motion_steps": 2}


def run(pipe, reference, audio, **options):
    return list(pipe.generate(reference, audio, **SETTINGS, **options))


def test_the_video_covers_the_sound(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice, 16_000)
    assert audio.num_frames == 14 and audio.tokens.shape[0] == 14
    clips = run(pipe, reference, audio)
    assert [len(clip.frames) for clip in clips] == [4, 4, 4, 2]
    assert [clip.start for clip in clips] == [0, 4, 8, 12]
    assert [clip.index for clip in clips] == [0, 1, 2, 3]
    frames = torch.cat([clip.frames for clip in clips])
    assert frames.shape == (14, 3, 192, 192) and frames.min() >= 0 and frames.max() <= 1
    assert clips[-1].memory.frame_index == 14


def test_a_sound_shorter_than_a_frame_gives_one_frame(pipe, reference, voice) -> None:
    clips = run(pipe, reference, pipe.embed_audio(voice[:300], 16_000))
    assert len(clips) == 1 and len(clips[0].frames) == 1


def test_the_seed_decides(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice[:5120], 16_000)
    first, again, other = (run(pipe, reference, audio, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].frames, other[0].frames)


def test_motion_first_or_on_the_way_is_the_same(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice, 16_000)
    clips = run(pipe, reference, audio, seed=5)
    memory = pipe.start_memory(reference, seed=5)
    motion = pipe.predict_motion(reference, audio, memory, steps=2)
    for part, expected in zip(motion.clips(4), clips, strict=True):
        clip, memory = pipe.sample_clip(reference, part, memory, steps=2)
        # Painted parts are kept in bytes: a last bit may fall to either side.
        assert torch.allclose(clip.frames, expected.frames, atol=1.01 / 255)


def test_a_saved_memory_continues_bit_for_bit(pipe, reference, voice, tmp_path) -> None:
    from mcdm_core.pipeline.memory import MotionMemory

    audio = pipe.embed_audio(voice, 16_000)
    whole = run(pipe, reference, audio, seed=7)
    whole[1].memory.save(tmp_path / "memory.safetensors")
    memory = MotionMemory.load(tmp_path / "memory.safetensors", pipe.fingerprint)
    rest = run(pipe, reference, audio, memory=memory, start_frame=memory.frame_index)
    assert [clip.index for clip in rest] == [2, 3]
    for resumed, expected in zip(rest, whole[2:], strict=True):
        assert torch.equal(resumed.frames, expected.frames)


def test_sampling_leaves_the_memory_alone(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice[:2560], 16_000)
    memory = pipe.start_memory(reference)
    before = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    motion = pipe.predict_motion(reference, audio, memory, steps=1)
    _, after = pipe.sample_clip(reference, motion, memory, steps=1)
    assert after is not memory and memory.clip_index == 0 and after.clip_index == 1
    assert all(torch.equal(memory.tensors()[name], tensor) for name, tensor in before.items())


def test_the_memory_does_not_grow(pipe, reference, voice) -> None:
    sizes = [clip.memory.num_bytes for clip in run(pipe, reference, pipe.embed_audio(voice, 16_000))]
    assert len(set(sizes)) == 1


@pytest.mark.usefixtures("any_contours")
def test_further_pictures_of_the_person_fill_the_archive(pipe, portrait, reference, voice) -> None:
    darker, lighter = (pipe.encode_reference(portrait * gain, box=(40, 50, 120, 130)) for gain in (0.7, 1.2))
    alone, seen = pipe.start_memory(reference, 3), pipe.start_memory(reference, 3, [darker, lighter])
    own = pipe.start_memory(darker).archive_latents[:, 0]
    assert alone.gallery is None and seen.gallery.pictures.shape == (2, 2, 3, 96, 96)
    torch.testing.assert_close(seen.archive_latents[:, 0], own, rtol=0, atol=0.05)
    assert torch.equal(seen.archive_latents[:, 0], seen.archive_latents[:, 1])
    assert not torch.equal(seen.archive_latents[:, 1], seen.archive_latents[:, 2])
    assert seen.archive_rows.shape == alone.archive_rows.shape and seen.seed == 3
    motion = pipe.predict_motion(reference, pipe.embed_audio(voice[:2560], 16_000), alone, steps=1)
    first, other = (pipe.sample_clip(reference, motion, memory, steps=1)[0] for memory in (alone, seen))
    assert not torch.equal(first.painted, other.painted)
    again = pipe.predict_motion(reference, pipe.embed_audio(voice[:2560], 16_000), seen, steps=1)
    assert torch.equal(again.tokens.cat(), motion.tokens.cat()), "pictures change no motion"
    many = pipe.start_memory(reference, 3, [darker, *[lighter] * 7])
    assert torch.equal(many.archive_latents[:, 0], seen.archive_latents[:, 0]), "no file crowds out those before it"
    assert torch.equal(many.gallery.pictures[:, :2].sort(1)[0], seen.gallery.pictures.sort(1)[0])
    after = pipe.sample_clip(reference, motion, seen, steps=1)[1]
    assert after.gallery is seen.gallery, "what is painted does not come in"
    blank = dataclasses.replace(seen.gallery, pictures=torch.zeros_like(seen.gallery.pictures))
    blind, _ = pipe.sample_clip(reference, motion, dataclasses.replace(seen, gallery=blank), steps=1)
    assert not torch.equal(blind.painted, other.painted)


def test_the_map_is_made_once_a_video_and_a_row_once_a_frame(pipe, reference, voice, monkeypatch) -> None:
    prior = pipe.model.archived_clip_prior
    maps, rows = [], []
    attention, forward = prior.reference_attention, prior.forward
    monkeypatch.setattr(prior, "reference_attention", lambda latents: maps.append(1) or attention(latents))
    monkeypatch.setattr(prior, "forward", lambda a, frames: rows.append(frames.shape[1]) or forward(a, frames))
    clips = run(pipe, reference, pipe.embed_audio(voice, 16_000))
    assert len(maps) == 1 and rows == [1, 4, 4, 4, 2]
    latents = clips[-1].memory.archive_latents
    expected = forward(attention(reference.latents), latents)
    torch.testing.assert_close(clips[-1].memory.archive_rows, expected, atol=1e-5, rtol=1e-4)


def test_each_step_takes_the_memory_of_its_own_timestep(pipe, reference, voice, monkeypatch) -> None:
    given, made = [], []
    forward = pipe.model.unet.forward

    def note(x, timestep, f_ac, f_pc, memory, *rest, **options):
        given.append(memory)
        prediction, new = forward(x, timestep, f_ac, f_pc, memory, *rest, **options)
        made.append(new)
        return prediction, new

    monkeypatch.setattr(pipe.model.unet, "forward", note)
    run(pipe, reference, pipe.embed_audio(voice[:5120], 16_000))
    assert given[:2] == [None, None] and len(given) == 4
    for step in (0, 1):
        assert given[2 + step].keys() == made[step].keys() == set(pipe.model.unet.memory_keys)
        assert all(torch.equal(given[2 + step][key], value) for key, value in made[step].items())
    key = pipe.model.unet.memory_keys[0]
    assert not torch.equal(made[0][key], made[1][key])


def test_the_archive_reaches_the_next_clip(pipe, reference, voice) -> None:
    import dataclasses

    audio = pipe.embed_audio(voice[:2560], 16_000)
    memory = pipe.start_memory(reference)
    motion = pipe.predict_motion(reference, audio, memory, steps=1)
    other = dataclasses.replace(memory, archive_rows=memory.archive_rows + 1)
    first, _ = pipe.sample_clip(reference, motion, memory, steps=1)
    second, _ = pipe.sample_clip(reference, motion, other, steps=1)
    assert not torch.equal(first.latents, second.latents)


def test_a_callback_can_stop_and_keeps_what_was_yielded(pipe, reference, voice) -> None:
    calls = []

    def stop(done: int, total: int, latents: torch.Tensor) -> None:
        calls.append((done, total))
        if len(calls) == 3:
            raise InterruptedError

    kept = []
    with pytest.raises(InterruptedError):
        for clip in pipe.generate(reference, pipe.embed_audio(voice, 16_000), callback=stop, **SETTINGS):
            kept.append(clip)
    assert len(kept) == 1 and calls == [(1, 2), (2, 2), (1, 2)]


def test_memory_from_frames_continues_a_video(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice[:5120], 16_000)
    clips = run(pipe, reference, audio)
    frames = torch.cat([clip.frames for clip in clips])
    memory = pipe.memory_from_frames(reference, frames, seed=1)
    assert memory.frame_index == 8 and memory.motion_context is not None
    assert run(pipe, reference, audio, memory=memory)[0].start == 8
    pasted = torch.cat(list(pipe.finish_frames(reference, clips[0])))
    assert pipe.memory_from_frames(reference, pasted).archive_rows.shape == memory.archive_rows.shape
    with pytest.raises(MCDMError, match="face crops"):
        pipe.memory_from_frames(reference, torch.rand(2, 3, 50, 60))


def test_guidance_changes_the_picture(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice[:2560], 16_000)
    plain, guided = run(pipe, reference, audio)[0], run(pipe, reference, audio, guidance=2.0)[0]
    assert not torch.equal(plain.frames, guided.frames)


def test_a_driver_gives_the_head_and_leaves_the_rest(pipe, reference, voice) -> None:
    audio = pipe.embed_audio(voice[:2560], 16_000)
    driver = reference.landmarks[None].repeat(4, 1, 1) + torch.linspace(0, 0.1, 4)[:, None, None]
    motion = pipe.predict_motion(reference, audio, steps=2, landmarks=driver)
    expected = pipe.model.motion_codec.encode_head(driver[None])[0]
    assert torch.allclose(motion.tokens.head, expected, atol=1e-5)


@pytest.mark.parametrize("detail", ["warp", "none"])
def test_finished_frames_have_the_portraits_size(pipe, portrait, voice, detail: str) -> None:
    reference = pipe.encode_reference(portrait, box=(70, 80, 100, 110))
    clip = run(pipe, reference, pipe.embed_audio(voice[:2560], 16_000))[0]
    frames = torch.cat(list(pipe.finish_frames(reference, clip, detail=detail)))
    assert frames.shape == (4, 3, 180, 160) == (4, 3, *pipe.output_size(reference))
    assert torch.equal(frames[0, :, :40], reference.image[:, :40])
    assert not torch.equal(frames[0, :, 90:100, 80:90], reference.image[:, 90:100, 80:90])
    crops = torch.cat(list(pipe.finish_frames(reference, clip, detail=detail, paste=False)))
    assert crops.shape[-2:] == pipe.output_size(reference, paste=False)


def test_unusable_inputs_are_named(pipe, portrait) -> None:
    with pytest.raises(AudioError):
        pipe.embed_audio(torch.zeros(16_000), 16_000)
    assert pipe.embed_audio(torch.zeros(16_000), 16_000, allow_silent=True).num_frames == 25
    with pytest.raises(FaceTooSmallError):
        pipe.encode_reference(portrait, box=(10, 10, 20, 20))
    with pytest.raises(MCDMError, match=r"\[3, h, w\]"):
        pipe.encode_reference(portrait[0])
    with pytest.raises(WeightsError, match="no preset"):
        MCDMPipeline.from_preset("huge")


def test_faces_are_chosen_by_size(pipe, portrait, monkeypatch, caplog) -> None:
    monkeypatch.setattr(type(pipe.model.face_network), "detect", lambda self, image, **kwargs: [])
    with pytest.raises(FaceNotFoundError, match="160x180"):
        pipe.encode_reference(portrait)
    boxes = [FaceBox(40.0, 50.0, 120.0, 130.0, 1.0), FaceBox(0.0, 0.0, 30.0, 30.0, 1.0)]
    monkeypatch.setattr(type(pipe.model.face_network), "detect", lambda self, image, **kwargs: boxes)
    reference = pipe.encode_reference(portrait)
    assert reference.transform.side == pytest.approx(133, abs=1) and "2 faces" in caplog.text
    tiny_face = FaceBox(0.0, 0.0, 9.0, 9.0, 1.0)
    monkeypatch.setattr(type(pipe.model.face_network), "detect", lambda self, image, **kwargs: [tiny_face])
    with pytest.raises(FaceTooSmallError, match="9 pixels"):
        pipe.encode_reference(portrait)
