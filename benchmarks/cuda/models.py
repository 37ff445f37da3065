"""The pipelines that are measured: ``tiny`` with its weights, ``base`` with random ones, which cost what trained ones
cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdm_core.config import BASE, MCDMConfig
from mcdm_core.media.portrait import load_portrait
from mcdm_core.model import MCDMModel
from mcdm_core.pipeline import AudioEmbedding, MCDMPipeline, Reference
from mcdm_core.samples import default_portrait

RATE = 16_000
GUIDANCE = 3.0


@dataclass(frozen=True)
class Video:
    """A pipeline with a portrait and a voice ready for it."""

    pipe: MCDMPipeline
    reference: Reference
    audio: AudioEmbedding


def made_up_voice(seconds: float) -> Tensor:
    """Syllables of a buzzing tone, four a second: ``[1, samples]``."""
    time = torch.arange(round(seconds * RATE)) / RATE
    buzz = torch.stack([torch.sin(2 * torch.pi * 140 * k * time) / k for k in range(1, 12)]).sum(0)
    return (0.2 * buzz * torch.sin(torch.pi * 4 * time).clamp(min=0))[None]


def tiny_video(device: torch.device, seconds: float) -> Video:
    """The shipped weights."""
    pipe = MCDMPipeline.from_preset("tiny", device)
    return Video(pipe, pipe.encode_reference(load_portrait(default_portrait())), _voice(pipe, seconds))


def base_video(device: torch.device, seconds: float, small: bool = False) -> Video:
    """``base`` with random weights, drawn on the device; ``small``: the same in miniature, to try a script."""
    config = miniature(BASE) if small else BASE
    torch.manual_seed(0)
    with torch.device(device):
        model = MCDMModel(config)
    pipe = MCDMPipeline(model.to(device))
    picture = load_portrait(default_portrait(), 512)
    height, width = picture.shape[-2:]
    box = (0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height)
    return Video(pipe, pipe.encode_reference(picture, box), _voice(pipe, seconds))


def miniature(config: MCDMConfig) -> MCDMConfig:
    """``base`` with narrow layers and pictures of 64 pixels."""
    return dataclasses.replace(
        config,
        image_size=64,
        vae=dataclasses.replace(config.vae, stock_channels=(32, 32, 32, 32)),
        audio_encoder=dataclasses.replace(config.audio_encoder, num_layers=1),
        image_encoder=dataclasses.replace(config.image_encoder, feature_dim=64, num_layers=1, num_heads=2),
        motion_codec=dataclasses.replace(config.motion_codec, width=48, num_layers=1, num_heads=2, motion_dim=48),
        present_clip_prior=dataclasses.replace(config.present_clip_prior, width=48, num_layers=1, num_heads=2),
        archived_clip_prior=dataclasses.replace(config.archived_clip_prior, width=48, latent_size=8),
        unet=dataclasses.replace(
            config.unet, latent_size=8, block_channels=(64, 64, 64, 64), layers_per_block=1, text_context_dim=48
        ),
    )


def _voice(pipe: MCDMPipeline, seconds: float) -> AudioEmbedding:
    return pipe.embed_audio(made_up_voice(seconds), RATE)
