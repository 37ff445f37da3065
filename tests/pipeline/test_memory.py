"""The motion memory: saving, refusal of another model's, size, randomness."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.errors import MemoryMismatchError
from mcdm_core.models.inputs.gallery import Gallery
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
        gallery=Gallery(torch.randint(256, (1, 2, 3, 4, 4), dtype=torch.uint8), torch.rand(1, 2, 48)),
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
    numbers = {name: tensor.numel() for name, tensor in memory.tensors().items()}
    assert memory.num_bytes == sum(numbers.values()) * 4 - 3 * numbers["gallery/pictures"]


def test_equal_states_give_equal_bytes(tmp_path) -> None:
    memory = example()
    files = [tmp_path / f"{k}.safetensors" for k in range(4)]
    for file in files:
        memory.save(file)
    assert len({file.read_bytes() for file in files}) == 1


def altered(tmp_path, tensors=None, **counters) -> object:
    """The example's file with other tensors or counters."""
    import json

    from safetensors.torch import save_file

    memory = example()
    about = {"format": "mcdm_memory_1", "frame_index": 8, "clip_index": 2, "seed": 5, "fingerprint": "abc", **counters}
    parts = {name: tensor for name, tensor in {**memory.tensors(), **(tensors or {})}.items() if tensor is not None}
    save_file(parts, str(tmp_path / "m.safetensors"), {"mcdm_memory": json.dumps(about)})
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    "tensors",
    [
        {"archive_rows": torch.full((1, 4, 4, 8), torch.nan)},
        {"archive_latents": torch.rand(1, 5, 3, 8, 8)},
        {"archive_latents": torch.rand(4, 3, 8, 8)},
        {"archive_latents": torch.zeros(1, 4, 3, 8, 8, dtype=torch.int32)},
        {"reference_map": None},
        {"reference_map": torch.rand(1, 5, 16)},
        {"motion_context/lip": torch.rand(3, 1, 6)},
        {"motion_context/lip": None},
        {"unet_memory/nan/x": torch.rand(1, 2, 3)},
        {"unet_memory/1/x": torch.rand(2, 2, 3)},
        {"unet_memory/x": torch.rand(1, 2, 3)},
        {"something": torch.rand(3)},
        {"gallery/pictures": torch.rand(1, 2, 3, 4, 4)},
        {"gallery/pictures": torch.zeros(2, 2, 3, 4, 4, dtype=torch.uint8)},
        {"gallery/pictures": torch.zeros(1, 2, 4, 4, 4, dtype=torch.uint8)},
        {"gallery/pictures": torch.zeros(1, 2, 3, 4, 5, dtype=torch.uint8)},
        {"gallery/pictures": torch.zeros(1, 3, 3, 4, 4, dtype=torch.uint8)},
        {"gallery/pictures": None},
        {"gallery/shapes": None},
    ],
)
def test_a_damaged_memory_is_refused(tmp_path, tensors) -> None:
    with pytest.raises(MemoryMismatchError, match=r"m\.safetensors"):
        MotionMemory.load(altered(tmp_path, tensors))


@pytest.mark.parametrize(
    "counters",
    [
        {"frame_index": -1},
        {"frame_index": "8"},
        {"clip_index": 1.5},
        {"clip_index": 10**40},
        {"seed": None},
        {"frame_index": True},
        {"format": "mcdm_memory_9"},
    ],
)
def test_senseless_counters_are_refused(tmp_path, counters) -> None:
    assert MotionMemory.load(altered(tmp_path)).frame_index == 8
    with pytest.raises(MemoryMismatchError, match=r"m\.safetensors"):
        MotionMemory.load(altered(tmp_path, **counters))


def test_metadata_of_any_other_kind_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    for text in ("[" * 100_000, "3", "nonsense", "[]", "{}"):
        save_file(example().tensors(), str(tmp_path / "m.safetensors"), {"mcdm_memory": text})
        with pytest.raises(MemoryMismatchError, match=r"m\.safetensors"):
            MotionMemory.load(tmp_path / "m.safetensors")
