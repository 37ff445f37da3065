"""Stages 1 and 3 of the training: the archived-clip prior, the UNet and its memory (section 3.5, 4.1).

Stage 1 trains the archived-clip prior and its reference attention (P); layer 4 is bypassed, F_ac_ref joins the residual
directly. Stage 3 trains only the present-clip reference attention and the temporal attention (P). The ``tiny`` preset
starts from nothing, so its UNet's own weights train in stage 1 (C), and in stage 3 the motion tokens' way into the
UNet. Beside that, an option: ``train_backbone`` trains the UNet's own weights in stage 3 as well.

Choices of ours (C) where the paper is silent:

* A sample is 32 consecutive frames, 16 of archive and 16 of target. While layer 4 is bypassed the frames of a clip do
  not see each other, so stage 1 takes only some of the 16 pairs (archived frame i, target frame i) of each clip, and
  more clips.
* The first steps are a plain regression: all noise, one timestep, which is all that one-step sampling uses. Later a
  share goes on so; half of the other noise levels lie near the top, the rest covers all levels. A further share
  learns from where sampling comes: the input is the model's own first estimate, not the truth, under little noise.
* The archive is augmented: noise, blur, colour, shift, the model's own estimates, or the reference repeated.
* The error is weighted towards lips and lids, and decoded cuts (mouth, eyes, anywhere) are compared in pixels, and
  late in training by a small critic as well (``adversary.py``).
* Clips shorter than two (stills under known motion) have no archive: theirs is the reference repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import TINY, MCDMConfig, to_json
from ..errors import WeightsError
from ..models.vae import build_autoencoder
from ..schedule import NoiseSchedule
from .adversary import Adversary
from .denoiser import Denoiser, freeze_for_stage
from .loop import LoopSettings, TrainResult, train
from .prior import load_codec
from .unet_batches import sample_batch, sample_timesteps
from .unet_data import LatentClips, read_clips
from .unet_losses import denoiser_losses
from .unet_validation import validate_denoiser

logger = logging.getLogger(__name__)


def load_data(
    folders: Iterable[Path], vae_weights: Path, codec_weights: Path | None, config: MCDMConfig, seed: int,
    limit: int | None = None, minimum: int | None = None, shares: Sequence[float] | None = None,
) -> LatentClips:  # fmt: skip
    """Clips of at least ``minimum`` frames (two clips' length) with the frozen autoencoder; stage 3: and codec."""
    from safetensors.torch import load_file

    vae = build_autoencoder(config).to(memory_format=torch.channels_last)
    vae.load_state_dict(_component(load_file(str(vae_weights)), "vae"))
    codec = None
    if codec_weights is not None:
        codec = load_codec(codec_weights, config)
    clips = read_clips(folders, minimum or 2 * config.clip_frames, seed, limit)
    return LatentClips(clips, vae, config, codec, shares=shares)


def _component(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A component's state dict, of a file that holds it with or without its prefix."""
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    return own or dict(state)


def train_stage(
    stage: int,
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    *,
    start_from: Path | None = None,
    codec_weights: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    clips: int = 8,
    frames: int = 4,
    learning_rate: float = 1e-3,
    regression_steps: int = 300,
    regression_share: float = 0.5,
    decode_weight: float = 5.0,
    decode_frames: int = 2,
    refine_share: float = 0.2,
    anywhere: float = 0.25,
    adversary_weight: float = 0.07,
    adversary_from: float = 1500.0,
    shares: Sequence[float] | None = None,
    every: int = 8,
    limit: int | None = None,
    motion_dropout: float = 0.1,
    train_backbone: bool | None = None,
    validate_every: int = 300,
    pictures: Path | None = None,
    cache: Path | None = None,
    resume: bool = True,
    bfloat16: bool = True,
    config: MCDMConfig = TINY,
    seed: int = 0,
) -> TrainResult:
    """Train one stage; see :func:`train_stage1` and :func:`train_stage3`.

    Args:
        start_from: weights of an earlier stage; codec_weights: of the motion codec (stage 3).
        minutes, steps: limits, those of the runs resumed included.
        clips, frames: a batch is ``frames`` of each of ``clips`` clips.
        regression_steps: length of the plain regression at the start; regression_share: its share afterwards.
        decode_weight, decode_frames: weight of the decoded cuts, and of how many frames of each clip.
        refine_share: share of clips that go on from the model's own estimate; anywhere: of cuts not at mouth or eyes.
        adversary_weight: of the critic of the cuts, used after ``adversary_from`` seconds of training.
        shares: how often clips of each folder are drawn; by default as often as there are clips.
        every: draw only every so many-th frame as a target (stage 3: as the first one); limit: of that many clips.
        motion_dropout: share of batches without motion tokens (for guidance).
        train_backbone: see :func:`~.denoiser.freeze_for_stage`; by default in stage 1 of ``tiny`` only.
        pictures: folder of validation pictures; cache: file that keeps latents and guides between runs.
        bfloat16: compute in bfloat16 where the processor can.
    """
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    random = np.random.default_rng([seed, stage])
    folders = [Path(folder) for folder in folders]
    backbone = (stage == 1 and config.preset == "tiny") if train_backbone is None else train_backbone
    schedule = NoiseSchedule(config)
    minimum = 2 * config.clip_frames if stage == 3 else frames
    data = load_data(folders, vae_weights, codec_weights, config, seed, limit, minimum, shares)
    held_out = load_data(validation_folders, vae_weights, codec_weights, config, seed, limit=8)
    if cache is not None and data.load(cache):
        logger.info("latents of %s taken back", cache.name)
    denoiser = Denoiser(config).to(memory_format=torch.channels_last)
    if start_from is not None:
        denoiser.load_state_dict(load_file(str(start_from)))
    trained = freeze_for_stage(denoiser, stage, backbone)
    logger.info("stage %d: %d clips, %d parameter tensors train", stage, len(data), len(trained))
    bypass = stage == 1
    adversary = Adversary() if adversary_weight else None
    began = time.monotonic()
    top = config.diffusion.num_train_timesteps - 1

    def losses(step: int) -> Mapping[str, Tensor]:
        share = 1.0 if step < regression_steps else regression_share
        with_motion = stage == 3 and random.random() >= motion_dropout
        # Latents are kept in half precision anyway.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            batch = sample_batch(
                data, clips, frames, random, motion=with_motion, consecutive=not bypass, pictures=decode_frames,
                every=every,
            )  # fmt: skip
        timestep = sample_timesteps(clips, share if schedule.kind == "prior_residual" else 0.0, top)
        refined = (torch.rand(clips) < refine_share * (step >= regression_steps)) & (schedule.kind == "prior_residual")
        # Sampling in n steps goes on at (n - 1) / n of the way at most.
        timestep = torch.where(refined, top * (0.1 + 0.7 * torch.rand(clips)), timestep)
        judged = adversary if time.monotonic() - began >= adversary_from else None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            parts, estimate = denoiser_losses(
                denoiser, batch, schedule, timestep, bypass_temporal=bypass, vae=data.vae, decode_weight=decode_weight,
                refined=refined, anywhere=anywhere, adversary=judged, adversary_weight=adversary_weight,
            )  # fmt: skip
        # At low noise an estimate is nearly the truth: only what sampling would give goes into archives.
        generated = refined | (timestep > 0.8 * top)
        for (clip, indices), samples, own in zip(batch.sources, estimate, generated, strict=True):
            if own:
                data.remember(clip, indices, samples)
        return parts

    def validate(module: nn.Module, step: int) -> dict[str, float]:
        added = data.add_new(folders, minimum, seed) if limit is None else 0
        logger.info("%d clips, %d of them new", len(data), added)
        if cache is not None:
            data.save(cache)
        path = None if pictures is None else Path(pictures) / f"unet_stage{stage}_{step:06d}.png"
        return validate_denoiser(module, held_out, schedule, bypass_temporal=bypass, motion=stage == 3, picture=path)

    settings = LoopSettings(
        output=output, steps=steps, minutes=minutes, learning_rate=learning_rate, weight_decay=1e-2, ema_decay=0.995,
        validate_every=validate_every, save_every=validate_every, log_every=25, resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "unet", "stage": str(stage), "vae": data.fingerprint},
    )  # fmt: skip
    return train(denoiser, losses, settings, validate)


def train_stage1(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    **settings: Any,
) -> TrainResult:
    """Stage 1: the archived-clip prior and its reference attention (and ``tiny``'s UNet), layer 4 bypassed.

    Args:
        folders, validation_folders: folders of shards.
        vae_weights: of the frozen autoencoder.
        output: weights file with the prefixes ``archived_clip_prior.`` and ``unet.``.
        settings: of :func:`train_stage`.
    """
    return train_stage(1, folders, validation_folders, vae_weights, output, **settings)


def train_stage3(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    start_from: Path,
    codec_weights: Path,
    **settings: Any,
) -> TrainResult:
    """Stage 3: present-clip reference attention and temporal attention, from stage 1's weights.

    Raises:
        WeightsError: if stage 1's or the motion codec's weights are missing.
    """
    for path, what in ((start_from, "Stage 1's weights"), (codec_weights, "The motion codec's weights")):
        if not Path(path).exists():
            raise WeightsError(f"{what} are expected at {path}; train them first.")
    defaults: dict[str, Any] = {
        "clips": 2, "frames": 16, "learning_rate": 5e-4, "regression_steps": 0, "decode_frames": 8,
        "adversary_from": 0.0, "every": 16,
    }  # fmt: skip
    return train_stage(
        3,
        folders,
        validation_folders,
        vae_weights,
        output,
        start_from=start_from,
        codec_weights=codec_weights,
        **{**defaults, **settings},
    )
