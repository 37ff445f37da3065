"""Stages 1 and 3 of the denoiser of parts (section 3.5; method.md, section 4).

As for the whole crop, with two choices (C) of a model that starts from nothing. Its own weights and layer 3 train from
the start: a mouth whose motion is unknown teaches nothing. And stage 3 goes on with all of them, over consecutive
clips. The memory M of the one ahead is carried, and half of the archives are frames that the model itself has made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import RETELLING, component_state
from ...config import TINY, MCDMConfig, to_json
from ...diffusion.frame_diffusion import FrameDiffusion
from ...models.vae import build_autoencoder
from ..adversary import Adversary
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, train
from ..perceptual import PerceptualDistance
from ..prior.train import load_codec
from ..unet.denoiser import Denoiser
from .batches import BatchDrawer
from .losses import LossWeights, PartLosses
from .retelling import ArchiveRetelling
from .rows import FrameRows
from .steps import StepShares
from .validation import validate_parts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartRecipe:
    """How a stage draws its batches and weighs its losses.

    Attributes:
        stage: 1 (layer 4 bypassed) or 3; clips, frames: of a batch.
        shares: how often clips of each folder are drawn; missing ones count 1. steps: which steps of sampling.
        critic_from: fraction of the training from which on the critic is used.
        motion_dropout, carried: see :class:`~.losses.PartLosses`; archive: False leaves it out (an ablation).
    """

    stage: int
    clips: int
    frames: int
    learning_rate: float
    weights: LossWeights = field(default_factory=LossWeights)
    shares: tuple[float, ...] = ()
    steps: StepShares = field(default_factory=StepShares)
    critic_from: float = 0.3
    motion_dropout: float = 0.06
    carried: float = 0.0
    archive: bool = True


PARTS_STAGE_1 = PartRecipe(stage=1, clips=4, frames=4, learning_rate=5e-4, steps=StepShares(first=0.85, second=0.0))
PARTS_STAGE_3 = PartRecipe(stage=3, clips=2, frames=8, learning_rate=5e-4, carried=0.4, weights=LossWeights(critic=0.4))


class PartObjective:
    """Losses of one random batch; called by the training loop with the step number."""

    def __init__(self, losses: PartLosses, recipe: PartRecipe, settings: LoopSettings) -> None:
        self.losses, self.recipe, self.settings = losses, recipe, settings
        self.critic: Adversary | None = None
        if recipe.weights.critic:
            self.critic = Adversary(regions=True, sight=losses.perceptual).to(losses.drawer.rows.device)

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """See the class."""
        late = self.settings.progress >= self.recipe.critic_from
        return self.losses(self.recipe.weights, self.critic if late else None)


def train_parts(
    recipe: PartRecipe,
    folders: Sequence[Path],
    validation_folders: Sequence[Path],
    vae_weights: Path,
    codec_weights: Path,
    output: Path,
    *,
    start_from: Path | None = None,
    perceptual: Path | None = None,
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
    """Train one stage.

    Args:
        folders, validation_folders: of shards; vae_weights, codec_weights: of the frozen models.
        output: weights file with the prefixes ``archived_clip_prior.`` and ``unet.``.
        start_from: weights of an earlier stage; perceptual: of the network of the perceptual distance, optional.
        minutes, steps: limits, those of the runs resumed included; limit: so many clips of each folder.
        pictures: folder of validation sheets; bfloat16: compute in it where the processor can.
    """
    torch.manual_seed(seed)
    vae = channels_last(build_autoencoder(config))
    vae.load_state_dict(component_state(vae_weights, "vae"))
    vae.eval().requires_grad_(False)
    vae.to(device)
    codec = load_codec(codec_weights, config).to(device)
    rows = FrameRows(folders, codec, config.image_size, minimum=3 * recipe.frames, limit=limit, device=device)
    held_out = FrameRows(
        validation_folders, codec, config.image_size, minimum=2 * config.clip_frames, limit=limit, device=device
    )
    denoiser = channels_last(Denoiser(config), device)
    if start_from is not None:
        state = load_file(str(start_from))
        denoiser.load_state_dict({key: value for key, value in state.items() if not key.startswith(RETELLING)})
    else:
        denoiser.archived_clip_prior.begin_at_places()
    retelling = ArchiveRetelling(denoiser.unet, config).to(device) if recipe.archive else None
    if retelling is not None:
        denoiser.add_module(RETELLING, retelling)
    settings = LoopSettings(
        output=output,
        steps=steps,
        minutes=minutes,
        learning_rate=recipe.learning_rate,
        weight_decay=1e-2,
        ema_decay=0.998,
        validate_every=validate_every,
        save_every=validate_every,
        log_every=25,
        resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "unet", "stage": str(recipe.stage)},
    )
    shares = (*recipe.shares, *[1.0] * (len(folders) - len(recipe.shares)))
    drawer = BatchDrawer(rows, recipe.frames, shares, seed)
    losses = PartLosses(
        denoiser,
        vae,
        drawer,
        FrameDiffusion(config),
        config.parts.size,
        clips=recipe.clips,
        shares=recipe.steps,
        bypass_temporal=recipe.stage == 1,
        motion_dropout=recipe.motion_dropout,
        carried=recipe.carried,
        archive=recipe.archive,
        retelling=retelling,
        bfloat16=bfloat16,
        perceptual=None if perceptual is None else PerceptualDistance.from_file(perceptual).to(device),
    )
    logger.info("stage %d on parts: %d clips", recipe.stage, len(rows.clips))

    def validate(module: Denoiser, step: int) -> dict[str, float]:
        path = None if pictures is None else Path(pictures) / f"parts_stage{recipe.stage}_{step:06d}.png"
        return validate_parts(module, vae, held_out, config, bypass_temporal=recipe.stage == 1, picture=path)

    return train(denoiser, PartObjective(losses, recipe, settings), settings, validate)
