"""The painted parts' own decoder, taught on what the finished denoiser paints (``models/part_decoder.py``, C).

The denoiser is frozen and samples each batch in two steps, as ``tiny`` does. The decoder makes pictures of the latents,
judged as the denoiser's are, and by the same critics. A regression's blur is low in energy everywhere. So little has to
be learnt of a person, and it holds for people never seen, where a critic of the denoiser did not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import component_state
from ...config import TINY, MCDMConfig, to_json
from ...diffusion.frame_diffusion import FrameDiffusion
from ...errors import MCDMError
from ...face.part_shapes import SHAPE_WIDTH, shape_tokens
from ...models.part_decoder import PartDecoder
from ...models.vae import TinyAutoencoder, build_autoencoder
from ..adversary import Adversary
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, train
from ..perceptual import PerceptualDistance
from ..prior.train import load_codec
from ..unet.denoiser import Denoiser
from .batches import BatchDrawer
from .losses import SHAPE_ERROR, LossWeights, PaintedBatch, PartLosses, half_of_frames
from .rows import FrameRows
from .steps import StepShares
from .validation import validate_parts

logger = logging.getLogger(__name__)

AS_SAMPLED = 0.5
"""Share of clips with the latents of two steps as they are; the others lie between one step's, softer, and beyond."""
BEYOND = 1.1
"""How far those may go, where 0 is one step and 1 is two."""
TOWARDS_TRUE = 0.08
"""Share of clips whose latents go some way to the true ones: sharp latents are to stay sharp."""


@dataclass(frozen=True)
class DecoderRecipe:
    """How the decoder is trained: clips and frames of a batch, and when the critic begins."""

    clips: int = 2
    frames: int = 8
    learning_rate: float = 7e-4
    weights: LossWeights = field(default_factory=lambda: LossWeights(critic=0.8))
    shares: tuple[float, ...] = ()
    critic_from: float = 0.02


PART_DECODER = DecoderRecipe()


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

    def __init__(
        self, decoder: PartDecoder, painter: PartLosses, recipe: DecoderRecipe, settings: LoopSettings
    ) -> None:
        self.decoder, self.painter, self.recipe, self.settings = decoder, painter, recipe, settings
        self.critic: Adversary | None = None
        if recipe.weights.critic:
            self.critic = Adversary(regions=True, sight=painter.perceptual).to(painter.drawer.rows.device)

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """Losses of a batch; ``loss`` is the weighted sum."""
        batch = self.painter.batch()
        (soft, made), _ = self.painter.steps.estimates(batch.begin, self.painter.conditions(batch, batch.archived))
        latents = between_steps(soft, made, batch.clean)
        frames = half_of_frames(latents)
        decoded = self._decoded(latents[:, frames], batch, frames)
        critic = self.critic if self.settings.progress >= self.recipe.critic_from else None
        losses = self.painter.picture_losses(decoded, batch, frames, self.recipe.weights, critic)
        losses["loss"] = losses.pop("pictures")
        return losses

    def _decoded(self, latents: Tensor, batch: PaintedBatch, frames: Tensor) -> Tensor:
        views = batch.views
        shapes = views.shapes + torch.randn_like(views.shapes[:, :1]) * SHAPE_ERROR
        tokens = shape_tokens(shapes, views.own_shapes, SHAPE_WIDTH)[:, frames]
        with self.painter.autocast():
            decoded = self.decoder(latents, tokens, self.decoder.portrait_features(views.still))
        return decoded.flatten(0, 1).float()


def train_part_decoder(
    recipe: DecoderRecipe,
    folders: Sequence[Path],
    validation_folders: Sequence[Path],
    vae_weights: Path,
    codec_weights: Path,
    output: Path,
    *,
    start_from: Path | None,
    perceptual: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    limit: int | None = None,
    validate_every: int = 500,
    pictures: Path | None = None,
    resume: bool = True,
    bfloat16: bool = True,
    device: torch.device | str = "cpu",
    config: MCDMConfig = TINY,
    seed: int = 0,
) -> TrainResult:
    """Train the decoder, which begins as the autoencoder's.

    Args:
        start_from: weights of the denoiser's last stage, or a whole model's; for the others see
            :func:`~.train.train_parts`.
        output: weights file with bare keys.

    Raises:
        MCDMError: without a denoiser, or if the configuration has no such decoder.
    """
    if start_from is None or not config.part_decoder.block_channels:
        raise MCDMError("The parts' decoder needs the weights of a finished denoiser, and a configuration that has it.")
    torch.manual_seed(seed)
    vae = build_autoencoder(config)
    if not isinstance(vae, TinyAutoencoder):
        raise MCDMError(f"vae.layout is {config.vae.layout!r}; the parts' decoder begins as that of a 'compact' one.")
    vae.load_state_dict(component_state(vae_weights, "vae"))
    decoder = PartDecoder(config)
    decoder.begin_at(vae)
    channels_last(vae, device).eval().requires_grad_(False)
    channels_last(decoder, device)
    codec = load_codec(codec_weights, config).to(device)
    denoiser = channels_last(Denoiser(config), device)
    own = {name for name, _ in denoiser.named_children()}
    state = load_file(str(start_from))
    denoiser.load_state_dict({key: value.float() for key, value in state.items() if key.partition(".")[0] in own})
    denoiser.eval().requires_grad_(False)
    rows = FrameRows(folders, codec, config.image_size, minimum=3 * recipe.frames, limit=limit, device=device)
    held_out = FrameRows(
        validation_folders, codec, config.image_size, minimum=2 * config.clip_frames, limit=limit, device=device
    )
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
        metadata={"mcdm_config": to_json(config), "component": "part_decoder"},
    )
    shares = (*recipe.shares, *[1.0] * (len(folders) - len(recipe.shares)))
    painter = PartLosses(
        denoiser,
        vae,
        BatchDrawer(rows, recipe.frames, shares, seed),
        FrameDiffusion(config),
        config.parts.size,
        clips=recipe.clips,
        shares=StepShares(),
        bypass_temporal=False,
        bfloat16=bfloat16,
        perceptual=None if perceptual is None else PerceptualDistance.from_file(perceptual).to(device),
    )
    logger.info("the parts' decoder: %d clips", len(rows.clips))

    def validate(module: PartDecoder, step: int) -> dict[str, float]:
        path = None if pictures is None else Path(pictures) / f"part_decoder_{step:06d}.png"
        return validate_parts(
            denoiser, vae, held_out, config, bypass_temporal=False, picture=path, steps=2, decoder=module
        )

    return train(decoder, DecoderLosses(decoder, painter, recipe, settings), settings, validate)
