"""The sight of the gallery, taught on what a finished denoiser and the decoder of its parts show (C).

Both are frozen. What is asked of the gallery is fitted in closed form. The gates and the correction learn by the losses
and critics of the decoder. Their frames are made to look like those of strangers (:mod:`.strangers`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import MCDMError
from ...face.parts import EYES, NUM_PARTS
from ...models.inputs.gallery import Gallery
from ...models.layers.picture_sight import PictureSight, half_resolution_cells
from ...models.part_decoder import PartDecoder
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, resume_path, train
from ..parts.decoder import validation_of
from ..parts.losses import LossWeights, PaintedBatch, PartLosses, half_of_frames
from ..parts.stage import LateCritic, PartMaterial, PartRecipe, PartRun, continue_part_decoder, frozen_denoiser
from ..ridge import ridge_solution
from .strangers import BARE_SHARE, as_of_strangers, further_off, less_seen

logger = logging.getLogger(__name__)

SIGHT = PartRecipe(stage=3, clips=2, frames=8, learning_rate=1e-3, weights=LossWeights(critic=1.5), critic_from=0.02)
EYES_EMPHASIS = 2.5
"""Of differences of eyes, beside 1 of mouths'. Lids that shut are few."""
_CELLS_OF_A_FRAME, _QUERY_PENALTY = 64, 1e-4


class SightLosses:
    """Losses of batches that a frozen denoiser has painted and a frozen decoder shows; called by the training loop.

    Args:
        decoder: whose sight is in training; painter: draws and paints the batches.
    """

    def __init__(self, decoder: PartDecoder, painter: PartLosses, recipe: PartRecipe, settings: LoopSettings) -> None:
        self.decoder, self.painter, self.weights = decoder, painter, recipe.weights
        self.critic = LateCritic(recipe, painter, settings)

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """Losses of a batch; ``loss`` is the weighted sum."""
        batch, _, made = self.painter.painted(_less_seen(self.painter.batch()))
        frames = half_of_frames(made)
        latents = further_off(made, batch.clean)[:, frames]
        tokens, person = self.painter.given_to(self.decoder, batch.archived, batch, frames)
        with torch.no_grad(), self.painter.autocast():
            own, queries = self.decoder.own(latents, tokens, person)
        sight, seen = self.decoder.pictures, person.pictures
        assert sight is not None and seen is not None and queries is not None  # `train_sight` has seen to it
        shapes = tokens[:, :, 0]
        own = F.pixel_shuffle(own.float(), 2).unflatten(0, latents.shape[:2])
        own, queries = as_of_strangers(own, queries.float(), batch.true[:, frames], shapes)
        with self.painter.autocast():
            shown = sight(F.pixel_unshuffle(own.flatten(0, 1), 2), queries, shapes, seen)
        pictures = F.pixel_shuffle(shown.float(), 2)
        eyes = (torch.arange(len(latents), device=latents.device) % NUM_PARTS == EYES).repeat_interleave(len(frames))
        emphasis = torch.where(eyes, EYES_EMPHASIS, 1.0).view(-1, 1, 1, 1)
        losses = self.painter.picture_losses(pictures, batch, frames, self.weights, self.critic.now(), emphasis)
        losses["loss"] = losses.pop("pictures")
        return losses


def _less_seen(batch: PaintedBatch) -> PaintedBatch:
    """The batch: some clips are painted from the portrait alone, some galleries hold little that helps."""
    views, clips = batch.views, len(batch.drawn.reference)
    bare = torch.rand(clips, device=batch.still.device) < BARE_SHARE
    bare = bare.repeat_interleave(len(batch.still) // clips).view(-1, 1, 1, 1, 1)
    portraits = Gallery.of_portraits(views.still, views.own_shapes.flatten(0, 1))
    return dataclasses.replace(
        batch,
        archived=torch.where(bare, batch.still[:, None], batch.archived),
        gallery=less_seen(batch.gallery, portraits),
    )


@torch.no_grad()
def fit_queries(decoder: PartDecoder, painter: PartLosses, batches: int = 40) -> None:
    """Fit what a new sight asks to the true frames, in closed form: it finds them from the first step on."""
    sight = decoder.pictures
    if sight is None:
        return
    given: list[Tensor] = []
    hook = sight.query.register_forward_pre_hook(lambda _, features: given.append(features[0].float()))
    inputs, wanted = [], []
    for _ in range(batches):
        batch, _, made = painter.painted()
        tokens, person = painter.given_to(decoder, batch.archived, batch, torch.arange(made.shape[1]))
        with painter.autocast():
            decoder.own(made, tokens, person)
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


def train_sight(recipe: PartRecipe, run: PartRun) -> TrainResult:
    """Train the sight of a finished decoder of parts; the weights, of decoder and sight, have bare keys.

    ``run.start_from`` holds the weights of the denoiser's last stage, or a whole model's; ``run.refine`` those of the
    decoder, or a whole model's. A sight that it has is gone on from.

    Raises:
        MCDMError: without either or clips, or if the configuration has no such decoder, or no gallery.
    """
    config, device = run.config, run.device
    if run.start_from is None or run.refine is None or not config.part_decoder.block_channels:
        raise MCDMError("The sight of the gallery needs the weights of a finished denoiser and a decoder of its parts.")
    if not config.part_decoder.gallery:
        raise MCDMError("part_decoder.gallery is 0; set it to the number of pictures that the decoder is to look at.")
    material = PartMaterial(recipe, run)
    decoder = channels_last(PartDecoder(config), device)
    goes_on = continue_part_decoder(decoder, run.refine)
    decoder.requires_grad_(False)
    sight = decoder.pictures
    assert sight is not None  # the configuration has a gallery
    for learnt in _learnt(sight):
        learnt.requires_grad_(True)
    painter = material.losses(frozen_denoiser(run))
    settings = run.settings(recipe, 0.995, component="part_decoder")
    logger.info("the sight of the gallery: %d clips", len(material.rows.clips))

    validate = validation_of(material, painter, run, "sight")
    losses = SightLosses(decoder, painter, recipe, settings)
    if not goes_on and not (settings.resume and resume_path(settings.output).exists()):
        fit_queries(decoder, painter)
    return train(decoder, losses, settings, validate)


def _learnt(sight: PictureSight) -> list[nn.Parameter]:
    """What losses of pictures teach: all but what is asked, whose gradients would lead it away from the frame."""
    asked = {id(parameter) for parameter in sight.query.parameters()}
    return [parameter for parameter in sight.parameters() if id(parameter) not in asked]
