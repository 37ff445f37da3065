"""The painted parts' own decoder, taught on what the finished denoiser paints (``models/part_decoder.py``, C).

The denoiser is frozen and samples each batch in two steps, as ``tiny`` does. The decoder makes pictures of the latents,
judged as the denoiser's are, and by the same critics. A regression's blur is low in energy everywhere. So little has to
be learnt of a person, and it holds for people never seen, where a critic of the denoiser did not.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ...errors import MCDMError
from ...models.part_decoder import PartDecoder
from ...models.vae import TinyAutoencoder
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, train
from .losses import LossWeights, PartLosses, half_of_frames
from .stage import LateCritic, PartMaterial, PartRecipe, PartRun, continue_part_decoder, frozen_denoiser
from .validation import validate_parts

logger = logging.getLogger(__name__)

AS_SAMPLED = 0.5
"""Share of clips with the latents of two steps as they are; the others lie between one step's, softer, and beyond."""
BEYOND = 1.1
"""How far those may go, where 0 is one step and 1 is two."""
TOWARDS_TRUE = 0.08
"""Share of clips whose latents go some way to the true ones: sharp latents are to stay sharp."""
PART_DECODER = PartRecipe(
    stage=3, clips=2, frames=8, learning_rate=7e-4, weights=LossWeights(critic=0.8), critic_from=0.02
)


PART_DECODER_REFINED = dataclasses.replace(
    PART_DECODER, learning_rate=4e-4, weights=LossWeights(critic=2.8), critic_from=0.0
)
"""Of a decoder that makes good pictures already: a critic that counts for more made each phase's mouths sharper."""


def between_steps(soft: Tensor, made: Tensor, clean: Tensor) -> Tensor:
    """Latents of clips ``[b, f, c, h, w]`` of several sharpnesses, of one step's, two steps' and the true ones."""
    chance, amount = torch.rand(2, len(made), 1, 1, 1, 1, device=made.device)
    share = torch.where(chance < AS_SAMPLED, torch.ones_like(amount), amount * BEYOND)
    latents = torch.lerp(soft, made, share)
    return torch.where(chance > 1 - TOWARDS_TRUE, torch.lerp(latents, clean, amount), latents)


class DecoderLosses:
    """Losses of batches that a frozen denoiser has painted; called by the training loop.

    Args:
        decoder: in training; painter: draws and paints the batches.
    """

    def __init__(self, decoder: PartDecoder, painter: PartLosses, recipe: PartRecipe, settings: LoopSettings) -> None:
        self.decoder, self.painter, self.weights = decoder, painter, recipe.weights
        self.critic = LateCritic(recipe, painter, settings)

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """Losses of a batch; ``loss`` is the weighted sum."""
        batch, soft, made = self.painter.painted()
        latents = between_steps(soft, made, batch.clean)
        frames = half_of_frames(latents)
        decoded = self.painter.shown_by(self.decoder, latents[:, frames], batch.archived, batch, frames)
        losses = self.painter.picture_losses(decoded, batch, frames, self.weights, self.critic.now())
        losses["loss"] = losses.pop("pictures")
        return losses


def validation_of(
    material: PartMaterial, painter: PartLosses, run: PartRun, name: str
) -> Callable[[PartDecoder, int], dict[str, float]]:
    """Scores, in two steps of sampling, of a decoder of what ``painter`` paints; ``name``: of the sheets."""

    def validate(module: PartDecoder, step: int) -> dict[str, float]:
        return validate_parts(
            painter.denoiser,
            material.vae,
            material.held_out,
            run.config,
            bypass_temporal=False,
            picture=run.picture(name, step),
            steps=2,
            decoder=module,
        )

    return validate


def train_part_decoder(recipe: PartRecipe, run: PartRun) -> TrainResult:
    """Train the decoder, which begins as the autoencoder's; the weights have bare keys.

    ``run.start_from`` holds the weights of the denoiser's last stage, or a whole model's. With ``run.refine`` the
    decoder begins as that model's, else as the autoencoder's. It looks at no gallery yet, see :mod:`..sight.train`.

    Raises:
        MCDMError: without a denoiser or clips, or if the configuration has no such decoder.
    """
    if run.start_from is None or not run.config.part_decoder.block_channels:
        raise MCDMError("The parts' decoder needs the weights of a finished denoiser, and a configuration that has it.")
    config = dataclasses.replace(run.config, part_decoder=dataclasses.replace(run.config.part_decoder, gallery=0))
    run, device = dataclasses.replace(run, config=config), run.device
    material = PartMaterial(recipe, run)
    vae = material.vae
    if not isinstance(vae, TinyAutoencoder):
        raise MCDMError(f"vae.layout is {config.vae.layout!r}; the parts' decoder begins as that of a 'compact' one.")
    decoder = PartDecoder(config).to(device)
    if run.refine is None:
        decoder.begin_at(vae)
    else:
        continue_part_decoder(decoder, run.refine)
    channels_last(decoder, device)
    painter = material.losses(frozen_denoiser(run))
    settings = run.settings(recipe, 0.995, component="part_decoder")
    logger.info("the parts' decoder: %d clips", len(material.rows.clips))

    validate = validation_of(material, painter, run, "part_decoder")
    return train(decoder, DecoderLosses(decoder, painter, recipe, settings), settings, validate)
