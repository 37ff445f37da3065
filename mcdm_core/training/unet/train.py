"""Stages 1 and 3 of the training: the archived-clip prior, the UNet and its memory (section 3.5, 4.1).

Stage 1 trains the archived-clip prior and its reference attention (P); layer 4 is bypassed, F_ac_ref joins the residual
directly. Stage 3 trains only the present-clip reference attention and the temporal attention (P). The ``tiny`` preset
starts from nothing. So its UNet's own weights train in stage 1 (C), and in stage 3 the motion tokens' way into the
UNet. Beside that, an option: ``train_backbone`` trains the UNet's own weights in stage 3 as well.

Choices of ours (C) where the paper is silent:

* A sample is 32 consecutive frames, 16 of archive and 16 of target. While layer 4 is bypassed the frames of a clip do
  not see each other. So stage 1 takes only some of the 16 pairs (archived frame i, target frame i) of each clip, and
  more clips.
* The first steps are a plain regression: all noise, one timestep, which is all that one-step sampling uses. Later a
  share goes on so; half of the other noise levels lie near the top, the rest covers all levels. A further share
  learns from where sampling comes: the input is the model's own first estimate, not the truth, under little noise.
* The archive is augmented: noise, blur, colour, shift, the model's own estimates, or the reference repeated.
* The error is weighted towards lips and lids, and decoded cuts (mouth, eyes, anywhere) are compared in pixels. Late in
  training a small critic compares them as well (``adversary.py``).
* Clips shorter than two (stills under known motion) have no archive: theirs is the reference repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import component_state, fingerprint
from ...config import TINY, MCDMConfig, to_json
from ...diffusion.frame_diffusion import FrameDiffusion
from ...errors import WeightsError
from ...models.vae import build_autoencoder
from ..adversary import Adversary
from ..channels_last import channels_last
from ..clip_frames import ClipFrames
from ..loop import LoopSettings, TrainResult, train
from ..prior.train import load_codec
from .batches import Batch, sample_batch, sample_timesteps
from .data import LatentClips
from .denoiser import Denoiser, freeze_for_stage
from .losses import denoiser_losses
from .validation import validate_denoiser

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a stage draws its batches and weighs its losses.

    Attributes:
        clips, frames: a batch is ``frames`` of each of ``clips`` clips.
        learning_rate: peak of the cosine.
        regression_steps: length of the plain regression at the start; regression_share: its share afterwards.
        decode_weight, decode_frames: weight of the decoded cuts, and of how many frames of each clip.
        refine_share: share of clips that go on from the model's own estimate; anywhere: of cuts not at mouth or eyes.
        adversary_weight: of the critic of the cuts, used after ``adversary_from`` of the training (a fraction).
        every: draw only every so many-th frame as a target (stage 3: as the first one): fewer to encode.
        references: reference frames of a clip to draw from; mirrored: use every clip in a mirror as well
            (``clip_frames.py``). Both are for GPUs, where encoding is cheap.
        motion_dropout: share of batches without motion tokens (for guidance).
        shares: how often clips of each folder are drawn; by default as often as there are clips.
        train_backbone: see :func:`~.denoiser.freeze_for_stage`; by default in stage 1 of ``tiny`` only.
    """

    clips: int = 8
    frames: int = 4
    learning_rate: float = 1e-3
    regression_steps: int = 300
    regression_share: float = 0.5
    decode_weight: float = 5.0
    decode_frames: int = 2
    refine_share: float = 0.2
    anywhere: float = 0.25
    adversary_weight: float = 0.07
    adversary_from: float = 0.4
    every: int = 8
    references: int = 1
    mirrored: bool = False
    motion_dropout: float = 0.1
    shares: Sequence[float] | None = None
    train_backbone: bool | None = None


STAGE_1 = Recipe()
STAGE_3 = Recipe(
    clips=2, frames=16, learning_rate=5e-4, regression_steps=0, decode_frames=8, adversary_from=0.0, every=16
)

GPU_STAGE_1 = replace(STAGE_1, clips=96, decode_frames=3, learning_rate=1.5e-3, every=1, references=6, mirrored=True)
GPU_STAGE_3 = replace(STAGE_3, clips=24, decode_frames=6, every=1, references=6, mirrored=True)
"""What a GPU has room for: nothing is encoded twice there, and clips are driven from several references."""


def load_data(
    folders: Iterable[Path],
    vae_weights: Path,
    codec_weights: Path | None,
    config: MCDMConfig,
    minimum: int,
    recipe: Recipe,
    device: torch.device | str = "cpu",
    seed: int = 0,
    limit: int | None = None,
) -> LatentClips:
    """Clips of at least ``minimum`` frames with the frozen autoencoder and, for stage 3, codec."""
    vae = channels_last(build_autoencoder(config))
    vae.load_state_dict(component_state(vae_weights, "vae"))
    codec = None if codec_weights is None else load_codec(codec_weights, config)
    frames = ClipFrames(
        folders, minimum, seed=seed, limit=limit, references=recipe.references, mirrored=recipe.mirrored, device=device
    )
    batch = 32 if frames.device.type == "cpu" else 1024
    return LatentClips(frames, vae, config, codec, batch, recipe.shares)


class DenoiserObjective:
    """Losses of one random batch of a stage; called by the training loop with the step number.

    Args:
        denoiser: trained where ``data`` lies; stage: 1 or 3; recipe: of its batches and losses.
        bfloat16: compute in bfloat16 where the processor can; seed: of the batches drawn.
        progress: tells the fraction of the training that is over, from which on the critic is used; without it, all.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        data: LatentClips,
        stage: int,
        recipe: Recipe,
        *,
        bfloat16: bool = True,
        seed: int = 0,
        progress: Callable[[], float] | None = None,
    ) -> None:
        self.denoiser, self.data, self.stage, self.recipe = denoiser, data, stage, recipe
        self.diffusion = FrameDiffusion(data.config)
        self.random = np.random.default_rng([seed, stage])
        self.adversary = Adversary().to(data.device) if recipe.adversary_weight else None
        self.bfloat16 = bfloat16
        self.progress = progress or (lambda: 1.0)

    def _batch(self) -> Batch:
        recipe = self.recipe
        with_motion = self.stage == 3 and self.random.random() >= recipe.motion_dropout
        return sample_batch(
            self.data,
            recipe.clips,
            recipe.frames,
            self.random,
            motion=with_motion,
            consecutive=self.stage == 3,
            pictures=recipe.decode_frames,
            every=recipe.every,
        )

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        recipe, device = self.recipe, self.data.device
        residual = self.diffusion.prediction_type == "prior_residual"
        top = self.diffusion.schedule.num_train_timesteps - 1
        share = 1.0 if step < recipe.regression_steps else recipe.regression_share
        timestep = sample_timesteps(recipe.clips, share if residual else 0.0, top)
        refined = torch.rand(recipe.clips) < recipe.refine_share * (residual and step >= recipe.regression_steps)
        # Sampling in n steps goes on at (n - 1) / n of the way at most.
        timestep = torch.where(refined, top * (0.1 + 0.7 * torch.rand(recipe.clips)), timestep)
        # At low noise an estimate is nearly the truth: only what sampling would give goes into archives.
        generated = (refined | (timestep > 0.8 * top)).to(device)
        judged = self.adversary if self.progress() >= recipe.adversary_from else None
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            batch = self._batch()
            parts, estimate = denoiser_losses(
                self.denoiser,
                batch,
                self.diffusion,
                timestep.to(device),
                bypass_temporal=self.stage == 1,
                vae=self.data.vae,
                decode_weight=recipe.decode_weight,
                refined=refined.nonzero()[:, 0].to(device),
                anywhere=recipe.anywhere,
                adversary=judged,
                adversary_weight=recipe.adversary_weight,
            )
        self.data.remember(batch.rows, estimate, generated)
        return parts


def train_stage(
    stage: int,
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    recipe: Recipe,
    *,
    start_from: Path | None = None,
    codec_weights: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    limit: int | None = None,
    validate_every: int = 300,
    pictures: Path | None = None,
    resume: bool = True,
    bfloat16: bool = True,
    device: torch.device | str = "cpu",
    config: MCDMConfig = TINY,
    seed: int = 0,
) -> TrainResult:
    """Train one stage; see :func:`train_stage1` and :func:`train_stage3`.

    Args:
        start_from: weights of an earlier stage; codec_weights: of the motion codec (stage 3).
        minutes, steps: limits, those of the runs resumed included; limit: use so many clips only.
        pictures: folder of validation pictures.
        bfloat16: compute in bfloat16 where the processor can.
    """
    torch.manual_seed(seed)
    from_scratch = stage == 1 and config.unet.layout == "compact"
    backbone = from_scratch if recipe.train_backbone is None else recipe.train_backbone
    minimum = 2 * config.clip_frames if stage == 3 else recipe.frames
    data = load_data(folders, vae_weights, codec_weights, config, minimum, recipe, device, seed, limit)
    held_out = load_data(
        validation_folders, vae_weights, codec_weights, config, 2 * config.clip_frames, Recipe(), device, seed, limit=8
    )
    denoiser = channels_last(Denoiser(config), device)
    if start_from is not None:
        denoiser.load_state_dict(load_file(str(start_from)))
    trained = freeze_for_stage(denoiser, stage, backbone)
    logger.info("stage %d: %d clips, %d parameter tensors train", stage, len(data), len(trained))
    vae = fingerprint({"vae": data.vae.state_dict()}, config)
    settings = LoopSettings(
        output=output,
        steps=steps,
        minutes=minutes,
        learning_rate=recipe.learning_rate,
        weight_decay=1e-2,
        ema_decay=0.995,
        validate_every=validate_every,
        save_every=validate_every,
        log_every=25,
        resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "unet", "stage": str(stage), "vae": vae},
    )
    objective = DenoiserObjective(
        denoiser, data, stage, recipe, bfloat16=bfloat16, seed=seed, progress=lambda: settings.progress
    )

    def validate(module: Denoiser, step: int) -> dict[str, float]:
        path = None if pictures is None else Path(pictures) / f"unet_stage{stage}_{step:06d}.png"
        return validate_denoiser(
            module, held_out, objective.diffusion, bypass_temporal=stage == 1, motion=stage == 3, picture=path
        )

    return train(denoiser, objective, settings, validate)


def train_stage1(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    recipe: Recipe = STAGE_1,
    **settings: Any,
) -> TrainResult:
    """Stage 1: the archived-clip prior and its reference attention (and ``tiny``'s UNet), layer 4 bypassed.

    Args:
        folders, validation_folders: folders of shards.
        vae_weights: of the frozen autoencoder.
        output: weights file with the prefixes ``archived_clip_prior.`` and ``unet.``.
        settings: of :func:`train_stage`.
    """
    return train_stage(1, folders, validation_folders, vae_weights, output, recipe, **settings)


def train_stage3(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    start_from: Path,
    codec_weights: Path,
    recipe: Recipe = STAGE_3,
    **settings: Any,
) -> TrainResult:
    """Stage 3: present-clip reference attention and temporal attention, from stage 1's weights.

    Raises:
        WeightsError: if stage 1's or the motion codec's weights are missing.
    """
    for path, what in ((start_from, "Stage 1's weights"), (codec_weights, "The motion codec's weights")):
        if not Path(path).exists():
            raise WeightsError(f"{what} are expected at {path}; train them first.")
    return train_stage(
        3,
        folders,
        validation_folders,
        vae_weights,
        output,
        recipe,
        start_from=start_from,
        codec_weights=codec_weights,
        **settings,
    )
