"""Where memory is short the same is made in smaller parts; where nothing helps, one line says what is safe."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from torch import nn

from benchmarks.stages import miniature
from mcdm_core.config import BASE
from mcdm_core.errors import MediaError, OutOfMemoryError, failures_told
from mcdm_core.models.vae import build_autoencoder
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.canvas.memory_fallback import in_smaller_parts


def short_of(monkeypatch, module: nn.Module, name: str, most: int, axis: int = 0) -> list[int]:
    """Let a method of a module fail on batches longer than ``most`` on an axis; returns the lengths it was given."""
    original, sizes = getattr(module, name), []

    def method(batch: torch.Tensor, *arguments: object, **named: object) -> object:
        sizes.append(batch.shape[axis])
        if batch.shape[axis] > most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return original(batch, *arguments, **named)

    monkeypatch.setattr(module, name, method)
    return sizes


@pytest.mark.parametrize(
    ("network", "method", "most", "axis"),
    [("unet", "forward", 1, 0), ("part_decoder", "forward", 3, 1), ("vae", "decode", 3, 0), ("vae", "encode", 1, 0)],
)
def test_a_clip_is_the_same_in_smaller_parts(
    pipe: MCDMPipeline, reference, voice, monkeypatch, caplog, network: str, method: str, most: int, axis: int
) -> None:
    if (network, method) == ("vae", "decode"):
        monkeypatch.setitem(pipe.model._modules, "part_decoder", None)  # as in weights without one
    sound = pipe.embed_audio(voice, 16_000)

    def clips() -> list:
        return list(pipe.generate(reference, sound, guidance=2.0, steps=2, motion_steps=1))

    whole = clips()
    sizes = short_of(monkeypatch, getattr(pipe.model, network), method, most, axis)
    with caplog.at_level(logging.WARNING):
        parts = clips()
    assert max(sizes) > most and "Memory is short" in caplog.text
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.frames, other.frames, atol=1e-2) and len(one.frames) == len(other.frames)
        state, same = one.memory.tensors(), other.memory.tensors()
        assert state.keys() == same.keys()
        assert all(torch.allclose(state[name], same[name], atol=1e-4) for name in state)


def test_memory_that_suffices_for_nothing_is_named(pipe: MCDMPipeline, reference, voice, monkeypatch) -> None:
    short_of(monkeypatch, pipe.model.unet, "forward", 0)
    sound = pipe.embed_audio(voice, 16_000)
    with pytest.raises(OutOfMemoryError, match="one at a time.*Close other programs"):
        next(pipe.generate(reference, sound))


def test_a_failure_says_what_is_safe_and_a_defect_stays_what_it_is() -> None:
    def told(error: Exception) -> str:
        with pytest.raises(Exception) as caught, failures_told("Close a program.", lambda: "2 clips are safe."):
            raise error
        return f"{type(caught.value).__name__}: {caught.value}"

    shortage = "OutOfMemoryError: There is too little free memory (allocation failed). Close a program."
    assert told(MemoryError()) == f"{shortage} 2 clips are safe."
    assert told(OSError(12, "Cannot allocate memory")).endswith("Close a program. 2 clips are safe.")
    assert told(MediaError("The disk is full.")) == "MediaError: The disk is full. 2 clips are safe."
    assert told(RuntimeError("shapes differ")) == "RuntimeError: shapes differ"


def test_where_one_picture_is_too_much_it_is_made_in_tiles(caplog) -> None:
    tiled, sizes = [False], []

    def picture(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if not tiled[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return batch + 1

    def in_tiles() -> bool:
        changed, tiled[0] = not tiled[0], True
        return changed

    made = in_smaller_parts(picture, torch.zeros(2), in_tiles=in_tiles)
    assert made.tolist() == [1, 1] and sizes == [2, 1, 1, 1] and "in tiles" in caplog.text
    tiled[0] = False
    with pytest.raises(OutOfMemoryError, match="one at a time"):
        in_smaller_parts(picture, torch.zeros(2), in_tiles=lambda: False)


def test_tiles_show_about_the_same_picture() -> None:
    """Normalisations see a tile alone. With random weights that, and the tiles' edges, make most of a difference."""
    pytest.importorskip("diffusers", reason="the autoencoder of base")
    torch.manual_seed(0)
    vae = build_autoencoder(dataclasses.replace(miniature(BASE), image_size=256)).eval()
    picture, latents = torch.rand(1, 3, 256, 256) * 2 - 1, torch.randn(1, 4, 32, 32)
    with torch.no_grad():
        encoded, decoded = vae.encode(picture), vae.decode(latents)
        assert vae.in_tiles() and not vae.in_tiles(), "once is enough"
        for whole, tiled, most in ((encoded, vae.encode(picture), 0.45), (decoded, vae.decode(latents), 0.3)):
            assert whole.shape == tiled.shape and not torch.equal(whole, tiled)
            wide = (whole - whole.mean((2, 3), keepdim=True)).norm()
            assert (whole - tiled).norm() < most * wide < (whole - tiled.flip(-1)).norm()
