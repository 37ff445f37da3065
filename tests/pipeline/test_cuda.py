"""What a GPU must do: the CPU's pictures, without making the host wait inside the network."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import SMALL
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.pipeline import MCDMPipeline, preset_weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

FRAMES = 40


def voice() -> torch.Tensor:
    """Syllables of a buzz, 1.6 s at 16 kHz."""
    time = torch.arange(FRAMES * 640) / 16_000
    buzz = torch.stack([torch.sin(2 * torch.pi * 140 * k * time) / k for k in range(1, 12)]).sum(0)
    return 0.2 * buzz * torch.sin(torch.pi * 4 * time).clamp(min=0)


def crops(device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Face crops ``[f, 3, h, w]`` in 255ths, of the shipped weights."""
    from mcdm_core.media.portrait import load_portrait
    from mcdm_core.samples import default_portrait

    pipe = MCDMPipeline.from_preset("tiny", device)
    pipe.model.picture_format = dtype
    reference = pipe.encode_reference(load_portrait(default_portrait()))
    audio = pipe.embed_audio(voice(), 16_000)
    return 255 * torch.cat([clip.frames for clip in pipe.generate(reference, audio, seed=seed)])


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_the_pictures_are_those_of_the_cpu_for_a_seed():
    cpu, gpu, half = crops("cpu"), crops("cuda"), crops("cuda", torch.bfloat16)
    assert len(cpu) == FRAMES
    assert (cpu - gpu).abs().mean() < 0.05 and (cpu - gpu).abs().max() < 2
    assert (cpu - half).abs().mean() < 0.5
    # Another seed is further away than another device.
    assert (cpu - crops("cuda", seed=1)).abs().mean() > 5 * (cpu - gpu).abs().mean()


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_frames_are_finished_on_the_gpu_as_on_the_cpu():
    finished = {}
    for device in ("cpu", "cuda"):
        from mcdm_core.media.portrait import load_portrait
        from mcdm_core.samples import default_portrait

        pipe = MCDMPipeline.from_preset("tiny", device)
        reference = pipe.encode_reference(load_portrait(default_portrait()))
        clip = next(iter(pipe.generate(reference, pipe.embed_audio(voice(), 16_000), seed=0)))
        frames = torch.cat(list(pipe.finish_frames(reference, clip, in_bytes=True)))
        assert frames.device.type == "cpu" and frames.dtype == torch.uint8
        finished[device] = frames.float() / 255
    assert -10 * (finished["cpu"] - finished["cuda"]).square().mean().log10() > 45


def network() -> tuple[DenoisingUNet, tuple[torch.Tensor, ...]]:
    """A narrow UNet of Stable Diffusion's layout on the CPU, every layer with an effect, and its inputs."""
    unet = dataclasses.replace(SMALL.unet, latent_size=8, block_channels=(64, 64, 64, 64), layers_per_block=1)
    prior = dataclasses.replace(SMALL.archived_clip_prior, width=48, latent_size=8)
    codec = dataclasses.replace(SMALL.motion_codec, width=48, motion_dim=48)
    config = dataclasses.replace(SMALL, unet=unet, archived_clip_prior=prior, motion_codec=codec)
    torch.manual_seed(0)
    model = DenoisingUNet(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(0, 0.02)
    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
    shapes = (1, 16, 4, 8, 8), (1, 16, prior.num_queries, 48), (1, 16, tokens, 48)
    x, rows, motion = (torch.randn(shape) for shape in shapes)
    return model, (x, torch.full((1,), 500.0), rows, motion)


def test_half_precision_stays_near_the_cpu():
    model, inputs = network()
    truth, memory = model(*inputs)
    truth, _ = model(*inputs, memory)
    for dtype, bound in ((torch.float32, 2e-3), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        on_gpu = network()[0].to("cuda", dtype)
        given = [value.to("cuda", dtype) if value.dim() > 1 else value.cuda() for value in inputs]
        _, past = on_gpu(*given)
        made, _ = on_gpu(*given, past)
        assert (made.float().cpu() - truth).norm() / truth.norm() < bound, dtype


def test_an_evaluation_makes_nobody_wait_and_can_be_captured():
    model, inputs = network()
    model, given = model.cuda(), [value.cuda() for value in inputs]
    _, memory = model(*given)
    eager, _ = model(*given, memory)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(*given, memory)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made, _ = model(*given, memory)
    graph.replay()
    torch.testing.assert_close(made, eager, atol=1e-3, rtol=1e-2)
