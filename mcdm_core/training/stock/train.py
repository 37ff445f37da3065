"""Training of stages 1 and 3 at full size: what starts from which weights, and what trains (section 3.5)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ...adapter import AdapterInfo, adapter_metadata, weights_name
from ...checkpoint import StateDict, load_weights
from ...config import MCDMConfig, to_json
from ...data.tar_clips import TarClips
from ...errors import WeightsError
from ...models.motion_codec import MotionCodec
from ...models.vae import build_autoencoder
from ..loop import LoopSettings, Tracker, TrainResult, train
from ..lora.layers import LowRankChange
from ..unet.denoiser import Denoiser, freeze_for_stage
from ..workers import Workers
from .objective import NoiseObjective, Parts
from .recompute import recompute_activations
from .samples import ClipSamples
from .validation import held_out, validation_loss, validation_sheet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StockRecipe:
    """How a stage trains; the defaults are the paper's (P).

    Attributes:
        steps: P: 30,000 a stage; learning_rate: P: 1e-5; batch: P: 4 samples, over all processes and turns.
        accumulate: turns that a batch is computed in. warmup_steps, ema_decay, weight_decay: C.
        backbone: also train the UNet's own weights; what starts from nothing needs it in stage 1 (C).
        checkpointing: compute activations twice instead of keeping them; bfloat16: compute in it.
        eight_bit: keep the optimiser's moments in 8 bits; readers: processes that decode video.
        studied: samples that stage 2 reads before it begins (``motion_study.py``).
        rank: of an adapter (:mod:`..lora.layers`) that trains in place of the stage's own layers; 0: none.
    """

    steps: int = 30_000
    learning_rate: float = 1e-5
    batch: int = 4
    accumulate: int = 1
    warmup_steps: int = 500
    ema_decay: float = 0.9995
    weight_decay: float = 1e-2
    backbone: bool = False
    checkpointing: bool = True
    bfloat16: bool = True
    eight_bit: bool = False
    readers: int = 4
    rank: int = 0
    studied: int = 256
    validate_every: int = 1000
    save_every: int = 1000
    log_every: int = 10

    def check_shared(self, workers: Workers) -> None:
        """Refuse a batch that the processes cannot share.

        Raises:
            WeightsError: if its samples do not go into processes and turns.
        """
        if self.batch % (self.accumulate * workers.count):
            raise WeightsError(
                f"A batch of {self.batch} cannot be shared by {workers.count} processes in {self.accumulate} turns."
            )

    def settings(
        self,
        output: Path,
        *,
        minutes: float | None,
        workers: Workers,
        tracker: Tracker | None,
        resume: bool,
        metadata: dict[str, str],
    ) -> LoopSettings:
        """Those of the training loop."""
        return LoopSettings(
            output,
            steps=self.steps,
            minutes=minutes,
            learning_rate=self.learning_rate,
            betas=(0.9, 0.999),
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            ema_decay=self.ema_decay,
            validate_every=self.validate_every,
            save_every=self.save_every,
            accumulate=self.accumulate,
            workers=workers,
            tracker=tracker,
            resume=resume,
            log_every=self.log_every,
            eight_bit=self.eight_bit,
            metadata=metadata,
        )


@dataclass(frozen=True)
class StockCodecRecipe:
    """How the motion codec of these presets trains (C): it is wider than tiny's.

    Attributes:
        couples, quadruples: of a batch, over all processes; see :class:`..codec.losses.CodecObjective`.
    """

    steps: int = 30_000
    learning_rate: float = 3e-4
    couples: int = 64
    quadruples: int = 16
    validate_every: int = 1000
    eight_bit: bool = False


RECIPES = {
    "base": StockRecipe(),
    "small": StockRecipe(steps=100_000, learning_rate=1e-4, batch=8, accumulate=4, backbone=True),
}
"""By preset. ``small`` learns from nothing, so it takes more and larger steps."""
Recipe = TypeVar("Recipe", StockRecipe, StockCodecRecipe)
ADAPTER_CHANGES: dict[str, object] = {"steps": 1000, "learning_rate": 1e-4, "warmup_steps": 50, "ema_decay": 0.99}
"""What the recipe of an adapter has otherwise (C): it begins at zero and sees one person."""


def train_stock(
    stage: int,
    data: Path,
    start_from: Sequence[Path],
    output: Path,
    recipe: StockRecipe,
    *,
    workers: Workers | None = None,
    device: torch.device | str = "cpu",
    minutes: float | None = None,
    tracker: Tracker | None = None,
    resume: bool = True,
    seed: int = 0,
    person: str = "",
) -> TrainResult:
    """Train stage 1 or 3 of a preset of Stable Diffusion's layout on curated video.

    Args:
        data: output of ``curate``, with ``train`` and ``val``.
        start_from: the assembled file (``convert``), then for stage 3 the folder of training; later ones win.
        output: ``unet_stage1.safetensors`` or ``unet.safetensors`` in the folder of training, or the adapter's file.
        person: whom an adapter is of.

    Raises:
        WeightsError: if the autoencoder, or for stage 3 the motion codec, is not in ``start_from``.
    """
    workers, device = workers or Workers(), torch.device(device)
    recipe.check_shared(workers)
    torch.manual_seed(seed)
    config, denoiser, parts = load_start(stage, start_from, device)
    module: nn.Module = denoiser
    if recipe.rank:
        states = {name: child.state_dict() for name, child in denoiser.named_children()}
        info = AdapterInfo(config.preset, weights_name(states, config), float(recipe.rank), person)
        metadata = adapter_metadata(info)
        module = LowRankChange(denoiser, recipe.rank)
        denoiser.to(device)
    else:
        metadata = {"mcdm_config": to_json(config), "component": "unet", "stage": str(stage)}
        freeze_for_stage(denoiser, stage, recipe.backbone)
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    if recipe.checkpointing:
        recompute_activations(denoiser.unet)
    clips = TarClips(sorted((Path(data) / "train").glob("*.tar")), at_least=2 * config.clip_frames)
    samples = ClipSamples(clips, config, seed, motion=stage == 3)
    logger.info("stage %d: %d clips, %d parameter tensors train", stage, len(clips), len(trained))
    objective = NoiseObjective(
        denoiser,
        parts,
        samples,
        config,
        stage,
        batch=recipe.batch // recipe.accumulate,
        workers=workers,
        device=device,
        readers=recipe.readers,
        bfloat16=recipe.bfloat16,
    )
    settings = recipe.settings(
        output, minutes=minutes, workers=workers, tracker=tracker, resume=resume, metadata=metadata
    )
    held = held_out(data, config, stage)

    def validate(_: nn.Module, step: int) -> dict[str, float]:
        if held is None:
            return {}
        if workers.first:
            sheet = output.parent / "pictures" / f"{output.stem}_{step:06d}.png"
            validation_sheet(sheet, denoiser, parts, held, objective, device)
        return {"mse": validation_loss(denoiser, parts, held, objective, device)}

    return train(module, objective, settings, validate)


def load_parts(start_from: Sequence[Path]) -> tuple[MCDMConfig, dict[str, StateDict]]:
    """Configuration and components of assembled files and folders of training; later ones win."""
    states: dict[str, StateDict] = {}
    config: MCDMConfig | None = None
    for path in map(Path, start_from):
        found = load_weights(path, config)
        config = found.config
        states.update(found.states)
    if config is None:
        raise WeightsError("There is nothing to start from: give the assembled file (convert).")
    return config, states


def load_start(stage: int, start_from: Sequence[Path], device: torch.device) -> tuple[MCDMConfig, Denoiser, Parts]:
    """Configuration, denoiser and frozen parts of assembled files and folders of training.

    Raises:
        WeightsError: if something is missing, or the preset is of another layout.
    """
    config, states = load_parts(start_from)
    if config.unet.layout != "stable_diffusion":
        raise WeightsError(f"The preset {config.preset!r} has another UNet, with a training of its own.")
    if "vae" not in states:
        raise WeightsError("There is no autoencoder in what is started from; assemble it with one (convert).")
    vae = build_autoencoder(config).eval().requires_grad_(False)
    vae.load_state_dict(states["vae"])
    codec = None
    if stage == 3:
        if "motion_codec" not in states:
            raise WeightsError("There is no motion codec in what is started from; train that first (codec).")
        codec = MotionCodec(config).eval().requires_grad_(False)
        codec.load_state_dict(states["motion_codec"])
        codec.to(device)
    denoiser = Denoiser(config)
    for name, module in denoiser.named_children():
        if name in states:
            module.load_state_dict(states[name])
    return config, denoiser.to(device), Parts(vae.to(device), codec)


def with_changes(recipe: Recipe, changes: dict[str, object]) -> Recipe:
    """A recipe with those changes that are not None."""
    return dataclasses.replace(recipe, **{key: value for key, value in changes.items() if value is not None})
