"""Stages 1 and 3 of the denoiser of parts (section 3.5; method.md, section 4).

As for the whole crop, with two choices (C) of a model that starts from nothing. Its own weights and layer 3 train from
the start: a mouth whose motion is unknown teaches nothing. And stage 3 goes on with all of them, over consecutive
clips. The memory M of the one ahead is carried, and half of the archives are frames that the model itself has made.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from torch import Tensor

from ...checkpoint import RETELLING
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, train
from ..unet.denoiser import Denoiser
from .losses import LossWeights, PartLosses
from .retelling import ArchiveRetelling
from .stage import LateCritic, PartMaterial, PartRecipe, PartRun, load_denoiser, load_part_decoder
from .steps import StepShares
from .validation import validate_parts

logger = logging.getLogger(__name__)

PARTS_STAGE_1 = PartRecipe(stage=1, clips=4, frames=4, learning_rate=5e-4, steps=StepShares(first=0.85, second=0.0))
PARTS_STAGE_3 = PartRecipe(stage=3, clips=2, frames=8, learning_rate=5e-4, carried=0.4, weights=LossWeights(critic=0.4))
PARTS_STAGE_3_REFINED = dataclasses.replace(
    PARTS_STAGE_3, learning_rate=2e-4, weights=LossWeights(critic=2.0), critic_from=0.02
)
"""Of a finished model: smaller steps, and a critic of the pictures that the model's own parts' decoder shows."""


class PartObjective:
    """Losses of one random batch; called by the training loop with the step number."""

    def __init__(self, losses: PartLosses, recipe: PartRecipe, settings: LoopSettings) -> None:
        self.losses, self.weights = losses, recipe.weights
        self.critic = LateCritic(recipe, losses, settings)

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """See the class."""
        return self.losses(self.weights, self.critic.now())


def train_parts(recipe: PartRecipe, run: PartRun) -> TrainResult:
    """Train one stage; the weights have the prefixes ``archived_clip_prior.`` and ``unet.``.

    With ``run.refine`` the pictures are those of that model's parts' decoder, if it has one.

    Raises:
        MCDMError: if no clip is long enough.
    """
    config, device = run.config, run.device
    material = PartMaterial(recipe, run)
    denoiser = channels_last(Denoiser(config), device)
    if run.start_from is not None:
        load_denoiser(denoiser, run.start_from)
    else:
        denoiser.archived_clip_prior.begin_at_places()
    retelling = ArchiveRetelling(denoiser.unet, config).to(device) if recipe.archive else None
    if retelling is not None:
        denoiser.add_module(RETELLING, retelling)
    settings = run.settings(recipe, 0.998, component="unet", stage=str(recipe.stage))
    decoder = None if run.refine is None else load_part_decoder(run.refine, config, device)
    losses = material.losses(denoiser, retelling, decoder)
    logger.info("stage %d on parts: %d clips", recipe.stage, len(material.rows.clips))

    def validate(module: Denoiser, step: int) -> dict[str, float]:
        picture = run.picture(f"parts_stage{recipe.stage}", step)
        first = recipe.stage == 1
        return validate_parts(
            module,
            material.vae,
            material.held_out,
            config,
            bypass_temporal=first,
            picture=picture,
            steps=1 if decoder is None else 2,
            decoder=decoder,
        )

    return train(denoiser, PartObjective(losses, recipe, settings), settings, validate)
