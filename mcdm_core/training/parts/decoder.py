"""The painted parts' own decoder, taught on what the finished denoiser paints (``models/part_decoder.py``, C).

The denoiser is frozen and samples each batch in two steps, as ``tiny`` does. The decoder makes pictures of the latents,
judged as the denoiser's are, and by the same critics. A regression's blur is low in energy everywhere. So little has to
be learnt of a person, and it holds for people never seen, where a critic of the denoiser did not.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...errors import MCDMError
from ...models.layers.picture_sight import PictureSight, half_resolution_cells
from ...models.part_decoder import PartDecoder
from ...models.vae import TinyAutoencoder
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, resume_path, train
from ..ridge import ridge_solution
from ..unet.denoiser import Denoiser
from .losses import LossWeights, PaintedBatch, PartLosses, half_of_frames
from .stage import LateCritic, PartMaterial, PartRecipe, PartRun, continue_part_decoder, load_denoiser
from .validation import validate_parts

logger = logging.getLogger(__name__)

AS_SAMPLED = 0.5
"""Share of clips with the latents of two steps as they are; the others lie between one step's, softer, and beyond."""
BEYOND = 1.1
"""How far those may go, where 0 is one step and 1 is two."""
TOWARDS_TRUE = 0.08
"""Share of clips whose latents go some way to the true ones: sharp latents are to stay sharp."""
SIGHT_RATE, SIGHT_WEIGHTS = 1e-3, LossWeights(critic=1.0)
"""Of a new sight of the gallery, which alone is taught where the rest is a finished decoder's."""
_CELLS_OF_A_FRAME, _QUERY_PENALTY = 64, 1e-4

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
        batch, soft, made = self._painted()
        latents = between_steps(soft, made, batch.clean)
        frames = half_of_frames(latents)
        decoded, queries = self.painter.shown_by(self.decoder, latents[:, frames], batch.archived, batch, frames)
        losses = self.painter.picture_losses(decoded, batch, frames, self.weights, self.critic.now())
        losses["loss"] = losses.pop("pictures")
        if queries is not None:
            wanted = half_resolution_cells(batch.true[:, frames].flatten(0, 1))
            losses["query"] = (queries.float() - wanted).abs().mean()
            losses["loss"] = losses["loss"] + self.weights.query * losses["query"]
        return losses

    def _painted(self) -> tuple[PaintedBatch, Tensor, Tensor]:
        """A batch, and what the first and the second step make of it."""
        batch = self.painter.batch()
        (soft, made), _ = self.painter.steps.estimates(batch.begin, self.painter.conditions(batch, batch.archived))
        return batch, soft, made

    @torch.no_grad()
    def fit_queries(self, sight: PictureSight, batches: int = 40) -> None:
        """Fit what a new sight asks to the true frames, in closed form: it then finds them from the first step on."""
        given: list[Tensor] = []
        hook = sight.query.register_forward_pre_hook(lambda _, features: given.append(features[0].float()))
        inputs, wanted = [], []
        for _ in range(batches):
            batch, _, made = self._painted()
            self.painter.shown_by(self.decoder, made, batch.archived, batch, torch.arange(made.shape[1]))
            around = F.unfold(given.pop(), 3, padding=1)
            true = half_resolution_cells(batch.true.flatten(0, 1)).flatten(2)
            some = torch.randint(around.shape[-1], (_CELLS_OF_A_FRAME,), device=around.device)
            for rows, of in ((inputs, around), (wanted, true)):
                rows.append(rearrange(of[..., some], "n c k -> (n k) c"))
        hook.remove()
        features = F.pad(torch.cat(inputs), (0, 1), value=1.0)
        solved = ridge_solution(features, torch.cat(wanted), _QUERY_PENALTY * len(features))
        weight = solved[:-1].T.reshape(sight.query.weight.shape)
        sight.query.load_state_dict({"weight": weight, "bias": solved[-1]})


def train_part_decoder(recipe: PartRecipe, run: PartRun) -> TrainResult:
    """Train the decoder, which begins as the autoencoder's; the weights have bare keys.

    ``run.start_from`` holds the weights of the denoiser's last stage, or a whole model's. With ``run.refine`` the
    decoder begins as that model's, else as the autoencoder's. If that model has no sight of the gallery, it alone is
    taught.

    Raises:
        MCDMError: without a denoiser or clips, or if the configuration has no such decoder.
    """
    config, device = run.config, run.device
    if run.start_from is None or not config.part_decoder.block_channels:
        raise MCDMError("The parts' decoder needs the weights of a finished denoiser, and a configuration that has it.")
    material = PartMaterial(recipe, run)
    vae = material.vae
    if not isinstance(vae, TinyAutoencoder):
        raise MCDMError(f"vae.layout is {config.vae.layout!r}; the parts' decoder begins as that of a 'compact' one.")
    decoder = PartDecoder(config).to(device)
    new = decoder.pictures
    if run.refine is None:
        decoder.begin_at(vae)
    elif continue_part_decoder(decoder, run.refine):
        new = None
    elif new is not None:
        # The rest has learnt all it can, and a critic would change it as long as the sight knows nothing.
        decoder.requires_grad_(False)
        new.requires_grad_(True)
        recipe = dataclasses.replace(recipe, learning_rate=SIGHT_RATE, weights=SIGHT_WEIGHTS)
    channels_last(decoder, device)
    denoiser = channels_last(Denoiser(config), device)
    load_denoiser(denoiser, run.start_from)
    denoiser.eval().requires_grad_(False)
    settings = run.settings(recipe, 0.995, component="part_decoder")
    painter = material.losses(denoiser)
    logger.info("the parts' decoder: %d clips", len(material.rows.clips))

    def validate(module: PartDecoder, step: int) -> dict[str, float]:
        picture = run.picture("part_decoder", step)
        rows = material.held_out
        return validate_parts(
            denoiser, vae, rows, config, bypass_temporal=False, picture=picture, steps=2, decoder=module
        )

    losses = DecoderLosses(decoder, painter, recipe, settings)
    if new is not None and not (settings.resume and resume_path(settings.output).exists()):
        losses.fit_queries(new)
    return train(decoder, losses, settings, validate)
