"""The CUDA path: the same frames as on the CPU, frames a second, and GPU memory over the clips of a video.

    python -m benchmarks.cuda_path [--clips 4] [--steps 25] [--weights FILE] [--skip-base]

``tiny`` runs with its weights, from a made-up voice, on both devices. ``base`` has no trained weights: its UNet,
archived-clip prior and autoencoder run in half precision with random ones, guided, which costs what trained ones cost.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from mcdm_core.config import BASE
from mcdm_core.diffusion.frame_diffusion import FrameDiffusion
from mcdm_core.diffusion.sampling import classifier_free_guidance
from mcdm_core.media.portrait import load_portrait
from mcdm_core.models.archived_clip_prior import ArchivedClipPrior
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.models.vae import build_autoencoder
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait

RATE = 16_000
MEBIBYTE = 2**20


def made_up_voice(seconds: float) -> Tensor:
    """Syllables of a buzzing tone, four a second: ``[1, samples]``."""
    time_ = torch.arange(round(seconds * RATE)) / RATE
    buzz = torch.stack([torch.sin(2 * torch.pi * 140 * k * time_) / k for k in range(1, 12)]).sum(0)
    return (0.2 * buzz * torch.sin(torch.pi * 4 * time_).clamp(min=0))[None]


def tiny_frames(weights: Path | None, device: str, seconds: float) -> tuple[Tensor, float]:
    """Frames ``[f, 3, h, w]`` on the CPU and seconds, the loading left out."""
    pipe = MCDMPipeline.from_file(weights, device) if weights else MCDMPipeline.from_preset("tiny", device)
    voice = made_up_voice(seconds)
    for _ in range(2):  # the first time kernels are chosen and loaded
        began = time.perf_counter()
        reference = pipe.encode_reference(load_portrait(default_portrait()))
        frames = torch.cat([clip.frames for clip in pipe.generate(reference, pipe.embed_audio(voice, RATE), seed=0)])
    return frames, time.perf_counter() - began


@torch.inference_mode()
def base_clips(clips: int, steps: int, kind: str) -> None:
    """Denoise and decode clips of ``base`` one after the other, memory carried; a line a clip."""
    config, guidance = BASE, 3.0
    torch.manual_seed(0)
    with torch.device("cuda"):
        unet, prior = DenoisingUNet(config).half().eval(), ArchivedClipPrior(config).half().eval()
        vae = build_autoencoder(config).half().eval()
    unet.set_temporal_attention(kind)
    schedule, size = FrameDiffusion(config).schedule, config.unet.latent_size
    channels, frames, codec = config.unet.latent_channels, config.clip_frames, config.motion_codec
    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", dtype=torch.half)

    reference = noise(1, channels, size, size)
    attention = prior.reference_attention(reference)
    archive = reference[:, None].expand(-1, frames, -1, -1, -1)
    memory: dict[int, dict[str, Tensor]] = {}
    text = noise(1, 77, config.unet.text_context_dim)
    for number in range(clips):
        torch.cuda.synchronize()
        began = time.perf_counter()
        rows, motion = prior(attention, archive), noise(1, frames, tokens, codec.motion_dim)
        x = noise(1, frames, channels, size, size)
        carried = {}
        for step, timestep in enumerate(schedule.timesteps(steps).cuda()):
            past = memory.get(step)
            guided, carried[step] = unet(x, timestep[None], rows, motion, past, text=text)
            free, _ = unet(x, timestep[None], rows, None, past, text=text)
            # Random weights make no picture: the input stays at noise's scale.
            x = (x + 0.01 * classifier_free_guidance(guided, free, guidance).tanh()).clamp(-4, 4)
        memory, archive = carried, x
        pictures = torch.cat([vae.decode(part) for part in x[0].split(4)])
        pictures.float().cpu()
        seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated() / MEBIBYTE
        carried_size = sum(value.nbytes for blocks in memory.values() for value in blocks.values()) / MEBIBYTE
        print(
            f"base, {kind}, clip {number + 1}: {seconds:.2f} s for {frames} frames of {pictures.shape[-1]} px, "
            f"{frames / seconds:.2f} frames/s; peak {peak:.0f} MiB, M carried {carried_size:.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--skip-base", action="store_true")
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    on_cpu, slow = tiny_frames(arguments.weights, "cpu", arguments.seconds)
    on_gpu, fast = tiny_frames(arguments.weights, "cuda", arguments.seconds)
    difference = (on_cpu - on_gpu).abs()
    print(
        f"tiny: {len(on_cpu)} frames, CPU {len(on_cpu) / slow:.1f} frames/s, CUDA {len(on_gpu) / fast:.1f} frames/s; "
        f"frames differ by {255 * difference.mean():.3f} of 255 on average, {255 * difference.amax():.1f} at most"
    )
    if not arguments.skip_base:
        for kind in ("exact", "favor"):
            base_clips(arguments.clips if kind == "exact" else 2, arguments.steps, kind)


if __name__ == "__main__":
    main()
