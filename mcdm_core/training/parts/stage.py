"""What stages on parts have alike: their recipe, what a run is given, the frozen models and the frames in memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...checkpoint import component_state
from ...config import TINY, MCDMConfig, to_json
from ...diffusion.frame_diffusion import FrameDiffusion
from ...errors import WeightsError
from ...models.part_decoder import PartDecoder
from ...models.vae import build_autoencoder
from ..adversary import Adversary
from ..channels_last import channels_last
from ..loop import LoopSettings
from ..perceptual import PerceptualDistance
from ..prior.train import load_codec
from ..unet.denoiser import Denoiser
from .batches import BatchDrawer
from .lip_reading import LipReading
from .losses import LossWeights, PartLosses
from .retelling import ArchiveRetelling
from .rows import FrameRows
from .steps import StepShares


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


@dataclass(frozen=True)
class PartRun:
    """What a run of a stage is given.

    Attributes:
        folders, validation_folders: of shards; vae_weights, codec_weights: of the frozen models.
        output: weights file.
        start_from: weights of an earlier stage, or a model's file; perceptual: of the network of the perceptual
            distance, optional.
        refine: a model's file that is gone on from. Its parts' decoder is what that decoder's stage begins with,
            and what shows the other stages what they paint.
        minutes, steps: limits, those of the runs resumed included; limit: so many clips of each folder.
        validate_every, save_every: steps. A validation, with every idea switched off in turn, takes minutes of a core.
        pictures: folder of validation sheets; bfloat16: compute in it where the processor can.
    """

    folders: Sequence[Path]
    validation_folders: Sequence[Path]
    vae_weights: Path
    codec_weights: Path
    output: Path
    start_from: Path | None = None
    refine: Path | None = None
    perceptual: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    limit: int | None = None
    validate_every: int = 900
    save_every: int = 300
    pictures: Path | None = None
    resume: bool = True
    bfloat16: bool = True
    device: torch.device | str = "cpu"
    config: MCDMConfig = TINY
    seed: int = 0

    @functools.cached_property
    def random(self) -> np.random.Generator:
        """What its batches are drawn with; a resumed run goes on where it stood."""
        return np.random.default_rng(self.seed)

    def settings(self, recipe: PartRecipe, ema_decay: float, **metadata: str) -> LoopSettings:
        """Those of the training loop; ``metadata`` stands in the weights beside the configuration."""
        return LoopSettings(
            output=self.output,
            steps=self.steps,
            minutes=self.minutes,
            learning_rate=recipe.learning_rate,
            weight_decay=1e-2,
            ema_decay=ema_decay,
            validate_every=self.validate_every,
            save_every=self.save_every,
            log_every=25,
            resume=self.resume,
            draws=(self.random,),
            metadata={"mcdm_config": to_json(self.config), **metadata},
        )

    def picture(self, name: str, step: int) -> Path | None:
        """The validation sheet of a step."""
        return None if self.pictures is None else Path(self.pictures) / f"{name}_{step:06d}.png"


class PartMaterial:
    """The frozen autoencoder of a run, and its frames in memory with the motion tokens of the frozen codec.

    Attributes:
        vae: frozen; rows, held_out: to train and to validate on; reading: of lips, by the codec.
    """

    def __init__(self, recipe: PartRecipe, run: PartRun) -> None:
        self.recipe, self.run = recipe, run
        torch.manual_seed(run.seed)
        config, device, limit = run.config, run.device, run.limit
        self.vae = build_autoencoder(config)
        load_network(self.vae, run.vae_weights, "vae")
        channels_last(self.vae, device).eval().requires_grad_(False)
        codec = load_codec(run.codec_weights, config).to(device)
        self.reading = LipReading(codec)
        size, least = config.image_size, 2 * config.clip_frames
        self.rows = FrameRows(run.folders, codec, size, minimum=3 * recipe.frames, limit=limit, device=device)
        self.held_out = FrameRows(run.validation_folders, codec, size, minimum=least, limit=limit, device=device)

    def losses(
        self, denoiser: Denoiser, retelling: ArchiveRetelling | None = None, decoder: PartDecoder | None = None
    ) -> PartLosses:
        """The losses of batches that ``denoiser`` paints, as ``decoder`` shows them, or else the autoencoder."""
        recipe, run = self.recipe, self.run
        shares = (*recipe.shares, *[1.0] * (len(run.folders) - len(recipe.shares)))
        return PartLosses(
            denoiser,
            self.vae,
            BatchDrawer(self.rows, recipe.frames, shares, run.random),
            FrameDiffusion(run.config),
            run.config.parts.size,
            clips=recipe.clips,
            shares=recipe.steps,
            bypass_temporal=recipe.stage == 1,
            motion_dropout=recipe.motion_dropout,
            carried=recipe.carried,
            archive=recipe.archive,
            retelling=retelling,
            bfloat16=run.bfloat16,
            reading=self.reading,
            decoder=decoder,
            perceptual=None if run.perceptual is None else PerceptualDistance.from_file(run.perceptual).to(run.device),
        )


def load_network(network: nn.Module, path: Path, component: str) -> None:
    """Load a network from a stage's weights, or from a whole model.

    Raises:
        WeightsError: if the file cannot be read, or does not hold such a network.
    """
    with _fitting(path, component):
        network.load_state_dict(component_state(path, component))


def continue_part_decoder(decoder: PartDecoder, path: Path) -> bool:
    """Load a decoder; tells whether its sight of the gallery was loaded too, as it is if both have one.

    Raises:
        WeightsError: see :func:`load_network`.
    """
    with _fitting(path, "part_decoder"):
        return decoder.continue_from(component_state(path, "part_decoder"))


@contextmanager
def _fitting(path: Path, component: str) -> Iterator[None]:
    """Name the file and the network that do not fit."""
    try:
        yield
    except RuntimeError as error:
        raise WeightsError(f"{path} does not hold the network {component!r} of this configuration: {error}") from error


def load_denoiser(denoiser: Denoiser, path: Path) -> None:
    """Load all networks of a denoiser, see :func:`load_network`."""
    for name, network in denoiser.named_children():
        load_network(network, path, name)


def frozen_denoiser(run: PartRun) -> Denoiser:
    """The finished denoiser that a run starts from, see :func:`load_network`."""
    denoiser = channels_last(Denoiser(run.config), run.device)
    if run.start_from is not None:
        load_denoiser(denoiser, run.start_from)
    return denoiser.eval().requires_grad_(False)


def load_part_decoder(path: Path, config: MCDMConfig, device: torch.device | str) -> PartDecoder | None:
    """The frozen decoder of a whole model's parts; None if the configuration has none."""
    if not config.part_decoder.block_channels:
        return None
    decoder = PartDecoder(config).to(device)
    if not continue_part_decoder(decoder, path):
        decoder.pictures = None
    return channels_last(decoder, device).eval().requires_grad_(False)


class LateCritic:
    """The critic of a recipe's pictures, from its fraction of the training on; none, if it weighs nothing.

    A training that is stopped goes on with the critic it had: one that begins anew knows nothing, and its word counts.
    """

    def __init__(self, recipe: PartRecipe, losses: PartLosses, settings: LoopSettings) -> None:
        self.begins, self.settings = recipe.critic_from, settings
        self.critic: Adversary | None = None
        if recipe.weights.critic:
            self.critic = Adversary(regions=True, sight=losses.perceptual).to(losses.drawer.rows.device)
            settings.beside = self.critic.modules

    def now(self) -> Adversary | None:
        """The critic, once it is used."""
        return self.critic if self.settings.progress >= self.begins else None
