"""What a GPU computes with, tried on the CPU: the same results, and the plain network where something fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.models.temporal_attention import MemoryEfficientTemporalAttention
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.run import gpu
from mcdm_core.pipeline.run.gpu import FallingBack, Replayed, choose_kernels, compile_blocks, plain_blocks, prepare


def clips(pipe: MCDMPipeline, reference, voice, network: Any = None, guidance: float = 2.0) -> torch.Tensor:
    """Latents of a video made with a network in the UNet's place."""
    pipe.clips.network = network
    try:
        sound = pipe.embed_audio(voice, 16_000)
        made = pipe.generate(reference, sound, guidance=guidance, steps=2, motion_steps=1)
        return torch.cat([clip.latents for clip in made])
    finally:
        pipe.clips.network = None


class Recorder:
    """Stands for CUDA's graphs: the call itself is repeated, on the tensors that it saw first."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, call: Callable[[], Any]) -> Callable[[], Any]:
        self.recorded += 1
        call()
        held: list[Any] = call.__closure__[[*call.__code__.co_freevars].index("made")].cell_contents  # type: ignore
        first = held[0]

        def replay() -> None:
            self.replayed += 1
            call()
            # A graph writes where it wrote before.
            first[0].copy_(held[0][0])
            for block, value in first[1].items():
                value.copy_(held[0][1][block])
            held[0] = first

        return replay


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_graphs_give_the_same_clips(pipe: MCDMPipeline, reference, voice, guidance: float) -> None:
    recorder = Recorder()
    made = clips(pipe, reference, voice, Replayed(pipe.model.unet, recorder), guidance)
    assert torch.allclose(made, clips(pipe, reference, voice, guidance=guidance), atol=1e-5)
    # Without and with a memory, and with guidance each of them with and without motion.
    assert recorder.recorded == (2 if guidance == 1 else 4)
    assert recorder.replayed > recorder.recorded


def test_a_driver_without_graphs_is_told_once_and_the_clips_are_made(
    pipe: MCDMPipeline, reference, voice, caplog
) -> None:
    def capture(call: Callable[[], Any]) -> Callable[[], Any]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        made = clips(pipe, reference, voice, Replayed(pipe.model.unet, capture))
    assert torch.equal(made, clips(pipe, reference, voice))
    assert caplog.text.count("CUDA graphs cannot be used") == 1


def test_compiled_blocks_give_the_same_clips(pipe: MCDMPipeline, reference, voice) -> None:
    pytest.importorskip("torch._dynamo")
    plain = clips(pipe, reference, voice)
    compile_blocks(pipe.model.unet, backend="eager")
    try:
        network = FallingBack(pipe.model.unet, lambda: plain_blocks(pipe.model.unet))
        made = clips(pipe, reference, voice, network)
    finally:
        plain_blocks(pipe.model.unet)
    assert not network.failed
    assert torch.allclose(made, plain, atol=1e-5)


def test_blocks_that_cannot_be_compiled_are_computed_as_they_are(pipe: MCDMPipeline, reference, voice, caplog) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no C++ compiler was found")

    compile_blocks(pipe.model.unet, backend=broken)
    network = FallingBack(pipe.model.unet, lambda: plain_blocks(pipe.model.unet))
    try:
        with caplog.at_level(logging.WARNING):
            made = clips(pipe, reference, voice, network)
    finally:
        plain_blocks(pipe.model.unet)
    assert network.failed and caplog.text.count("cannot be compiled") == 1
    assert torch.equal(made, clips(pipe, reference, voice))


def test_a_lack_of_memory_is_no_failure_of_the_compiler() -> None:
    def short(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    network = FallingBack(short, lambda: None)
    with pytest.raises(torch.OutOfMemoryError):
        network()
    assert not network.failed


def test_the_shapes_of_a_memory_are_told_beforehand(pipe: MCDMPipeline, reference, voice) -> None:
    clip = next(iter(pipe.generate(reference, pipe.embed_audio(voice, 16_000), motion_steps=1)))
    told = pipe.model.unet.memory_shapes()
    for memory in clip.memory.unet_memory.values():
        assert {name: tuple(value.shape[1:]) for name, value in memory.items()} == told


def test_graphs_without_cuda_are_refused(pipe: MCDMPipeline) -> None:
    with pytest.raises(MCDMError, match="CUDA graphs need a CUDA device, not cpu. Choose blocks"):
        prepare(pipe.model, "graphs")


def test_nothing_is_changed_unless_it_is_asked_for(pipe: MCDMPipeline) -> None:
    assert prepare(pipe.model, "no") is None
    assert not any(block.temporal.kernels for block in pipe.model.unet.transformer_blocks())


class Kernels:
    """Stands for Triton's kernels in a layer: takes a time, and may compute something else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, wrong: float = 0.0) -> None:
        self.now, plain = 0.0, MemoryEfficientTemporalAttention.forward

        def forward(layer: MemoryEfficientTemporalAttention, *given: torch.Tensor) -> Any:
            fused, layer.kernels = layer.kernels, False
            self.now += seconds if fused else 1.0
            result, memory = plain(layer, *given)
            layer.kernels = fused
            return result + wrong * fused, memory

        monkeypatch.setattr(MemoryEfficientTemporalAttention, "forward", forward)
        monkeypatch.setattr(gpu, "kernels_available", lambda: True)

    def chosen(self, unet: DenoisingUNet) -> set[bool]:
        blocks = unet.transformer_blocks()
        memory = {name: torch.randn(2, 9, block.norm1.normalized_shape[0]) for name, block in
                  zip(unet.memory_keys, blocks, strict=True)}  # fmt: skip
        try:
            choose_kernels(unet, memory, lambda: self.now)
            return {block.temporal.kernels for block in blocks}
        finally:
            for block in blocks:
                block.temporal.kernels = False


@pytest.mark.parametrize(("seconds", "used"), [(0.5, True), (0.99, False), (2.0, False)])
def test_kernels_are_used_where_they_are_faster(pipe: MCDMPipeline, monkeypatch, seconds: float, used: bool) -> None:
    assert Kernels(monkeypatch, seconds).chosen(pipe.model.unet) == {used}


def test_kernels_that_compute_something_else_are_not_used(pipe: MCDMPipeline, monkeypatch, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert Kernels(monkeypatch, 0.1, wrong=0.5).chosen(pipe.model.unet) == {False}
    assert "something else" in caplog.text
