"""The pipelines that are measured: ``tiny`` with its weights, ``base`` with random ones, which cost what trained ones
cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdm_core.config import BASE
from mcdm_core.media.portrait import load_portrait
from mcdm_core.model import MCDMModel
from mcdm_core.pipeline import AudioEmbedding, MCDMPipeline, Reference
from mcdm_core.samples import default_portrait

from ..stages import miniature

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


def _voice(pipe: MCDMPipeline, seconds: float) -> AudioEmbedding:
    return pipe.embed_audio(made_up_voice(seconds), RATE)
