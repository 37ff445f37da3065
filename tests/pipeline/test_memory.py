"""The motion memory: saving, refusal of another model's, size, randomness."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.errors import MemoryMismatchError
from mcdm_core.models.motion_tokens import MotionTokens
from mcdm_core.pipeline.memory import MotionMemory


def example() -> MotionMemory:
    return MotionMemory(
        reference_map=torch.rand(1, 4, 16),
        archive_latents=torch.rand(1, 4, 3, 8, 8),
        archive_rows=torch.rand(1, 4, 4, 8),
        unet_memory={step: {"down_blocks.1.0": torch.rand(1, 16, 8)} for step in ("999.0", "499.5")},
        motion_context=MotionTokens(torch.rand(2, 2, 6), torch.rand(2, 1, 6), torch.rand(2, 1, 6)),
        audio_context=torch.rand(2, 1, 5),
        frame_index=8,
        clip_index=2,
        seed=5,
        fingerprint="abc",
    )


def test_a_saved_memory_comes_back_whole(tmp_path) -> None:
    memory = example()
    memory.save(tmp_path / "deep" / "m.safetensors")
    back = MotionMemory.load(tmp_path / "deep" / "m.safetensors", "abc")
    assert back.tensors().keys() == memory.tensors().keys()
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in memory.tensors().items())
    counters = ("frame_index", "clip_index", "seed", "fingerprint")
    assert all(getattr(back, name) == getattr(memory, name) for name in counters)


def test_the_memory_of_another_model_is_refused(tmp_path) -> None:
    example().save(tmp_path / "m.safetensors")
    with pytest.raises(MemoryMismatchError, match="other"):
        MotionMemory.load(tmp_path / "m.safetensors", "other")


def test_files_that_are_no_memory_are_named(tmp_path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(MemoryMismatchError, match="no motion memory"):
        MotionMemory.load(tmp_path / "missing.safetensors")
    save_file({"a": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(MemoryMismatchError, match="not a motion memory"):
        MotionMemory.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    with pytest.raises(MemoryMismatchError, match="b.safetensors"):
        MotionMemory.load(tmp_path / "b.safetensors")


def test_frames_push_out_the_oldest() -> None:
    memory = example()
    latents, rows = torch.rand(1, 3, 3, 8, 8), torch.rand(1, 3, 4, 8)
    after = memory.advanced(latents, rows, {}, None, None)
    assert torch.equal(after.archive_latents[:, 1:], latents)
    assert torch.equal(after.archive_latents[:, 0], memory.archive_latents[:, 3])
    assert torch.equal(after.archive_rows[:, 1:], rows)
    assert (after.frame_index, after.clip_index) == (11, 3) and memory.frame_index == 8


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().frame_index = 3


def test_randomness_depends_on_seed_clip_and_purpose_alone() -> None:
    memory = example()

    def draw(state: MotionMemory, purpose: str) -> float:
        return torch.rand(1, generator=state.generator(purpose)).item()

    assert draw(memory, "motion") == draw(memory, "motion") != draw(memory, "frames")
    assert draw(dataclasses.replace(memory, clip_index=3), "motion") != draw(memory, "motion")
    assert draw(dataclasses.replace(memory, seed=6), "motion") != draw(memory, "motion")


def test_its_size_is_counted() -> None:
    memory = example()
    assert memory.num_bytes == sum(tensor.numel() for tensor in memory.tensors().values()) * 4
