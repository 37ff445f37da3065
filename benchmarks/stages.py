"""The stages of a video, each as one call that can be timed alone."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mcdm_core.config import PRESETS, MCDMConfig
from mcdm_core.media.audio import Audio, load_audio
from mcdm_core.media.portrait import load_portrait
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.samples import default_portrait, default_voice


@dataclass(frozen=True)
class Stage:
    """A call, and how many frames (or pictures) it makes."""

    name: str
    frames: int
    call: Callable[[], object]


@dataclass(frozen=True)
class Inputs:
    """What a video is made of: a pipeline, a portrait [3, h, w] in [0, 1], a voice, and where the face is."""

    pipe: MCDMPipeline
    picture: Path
    portrait: Tensor
    voice: Audio
    box: tuple[float, float, float, float] | None


def prepare(
    preset: str, weights: Path | None, device: torch.device, size: int, picture: Path | None, small: bool = False
) -> Inputs:
    """Load everything; a preset without weights has random ones, which cost what trained ones cost.

    Args:
        size: longer side of the portrait in pixels; it is enlarged or shrunk to it. small: a preset without weights in
            miniature.
    """
    box = None
    if weights is not None:
        pipe = MCDMPipeline.from_file(weights, device)
    elif preset_weights(preset).is_file():
        pipe = MCDMPipeline.from_preset(preset, device)
    else:
        config = PRESETS[preset]
        pipe = MCDMPipeline.from_config(miniature(config) if small else config, device=device)
        box = (0.3 * size, 0.3 * size, 0.7 * size, 0.7 * size)
    picture = picture or default_portrait()
    portrait = load_portrait(picture)
    scale = size / max(portrait.shape[-2:])
    if scale != 1:
        height, width = (round(side * scale) for side in portrait.shape[-2:])
        resized = torch.nn.functional.interpolate(portrait[None], size=(height, width), mode="bicubic", antialias=True)
        portrait = resized[0].clamp(0, 1)
    return Inputs(pipe, picture, portrait, load_audio(default_voice()), box)


def miniature(config: MCDMConfig) -> MCDMConfig:
    """``base`` or ``small`` with narrow layers and pictures of 64 pixels."""
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


@torch.no_grad()
def stages(inputs: Inputs) -> list[Stage]:
    """All stages of one clip in the middle of a video, in the order of the work."""
    pipe, portrait, voice = inputs.pipe, inputs.portrait, inputs.voice
    model, count = pipe.model, pipe.config.clip_frames
    reference = pipe.encode_reference(portrait, inputs.box)
    embedding = pipe.embed_audio(voice.waveform, voice.sample_rate)
    first = next(iter(pipe.generate(reference, embedding, seed=0)))
    memory, sound = first.memory, embedding.tokens[count : 2 * count]
    tokens, _ = pipe.motion.predict_clip(reference, sound, memory)
    motion = pipe.motion.decode(reference, tokens, embedding.fps)
    landmarks, canvas = motion.landmarks, pipe.clips.canvas
    assert landmarks is not None
    joined = motion.tokens.map(lambda stream: stream[None].to(pipe.device)).cat()
    places = canvas.places(reference, landmarks)
    guide, told = canvas.conditions(reference, joined, landmarks, places)
    clip, _ = pipe.sample_clip(reference, motion, memory)
    videos, *latent = reference.latents.shape
    latents = clip.latents.unflatten(0, (1, -1)) if videos == 1 else clip.latents.transpose(0, 1)
    latents = latents.to(pipe.device)
    rows = memory.archive_rows.to(pipe.device)
    noise, time = torch.randn(videos, count, *latent, device=pipe.device), torch.full((videos,), 999.0)
    time = time.to(pipe.device)
    past = next(iter(first.memory.unet_memory.values()), None)
    finished = list(pipe.finish_frames(reference, clip, in_bytes=True))
    height, width = pipe.output_size(reference)
    folder = tempfile.TemporaryDirectory()
    writer = VideoWriter(Path(folder.name) / "speed.mp4", width, height, embedding.fps)

    def encode() -> None:
        _ = folder  # lives as long as the writer's file
        for frame in finished:
            writer.write(frame)

    def finish() -> None:
        for _ in pipe.finish_frames(reference, clip, in_bytes=True):
            pass

    def guided() -> None:
        canvas.conditions(reference, joined, landmarks, canvas.places(reference, landmarks))

    def denoised() -> None:
        with model.products():
            model.unet(noise, time, rows, told, past, guide)

    return [
        Stage("read", 1, lambda: load_portrait(inputs.picture)),
        Stage("face", 1, lambda: pipe.encode_reference(portrait, inputs.box)),
        Stage("audio", embedding.num_frames, lambda: pipe.embed_audio(voice.waveform, voice.sample_rate)),
        Stage("prior", count, lambda: pipe.motion.predict_clip(reference, sound, memory)),
        Stage("motion", count, lambda: pipe.motion.decode(reference, tokens, embedding.fps)),
        Stage("guide", count, guided),
        Stage("unet", count, denoised),
        Stage("decode", count, lambda: canvas.decode(reference, latents, places, memory)),
        Stage("paint", count, lambda: canvas.paint(reference, latents, places, memory)),
        Stage("archive", count, lambda: model.archived_clip_prior(memory.reference_map.to(pipe.device), latents)),
        Stage("clip", count, lambda: pipe.sample_clip(reference, motion, memory)),
        Stage("finish", count, finish),
        Stage("encode", count, encode),
    ]
