"""Training of an adapter of how one person moves: lips to the sound, head, brows (``tiny``'s present-clip prior).

As stage 2 (:mod:`..prior.train`), with everything frozen but the low-rank change, and with the person's clips as they
are: heads are not moved elsewhere, nor made livelier or calmer, for that is what is to be learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...adapter import MOTION as COMPONENTS
from ...adapter import AdapterInfo, weights_name
from ...checkpoint import load_checkpoint
from ...models.motion_codec import MotionCodec
from ...motion.blinks import LidAxis
from ..clip_sampler import ClipBank, MotionClip
from ..loop import train
from ..prior.augmentation import opened_lids
from ..prior.train import PriorModules, PriorObjective, load_motion_clips
from ..prior.validation import validate_prior
from .layers import MOTION, LowRankChange
from .run import LoraResult, adapter_settings, load_frozen

logger = logging.getLogger(__name__)

TOLD = ("lip_r", "lip_r_wrong", "lip_std", "head_clip", "lip_clip", "expression_clip")
"""What is told of :func:`..prior.validation.validate_prior`."""


@dataclass(frozen=True)
class MotionRecipe:
    """How it trains.

    Attributes:
        rank: of the change; batch: segments a step; learning_rate: smaller than the looks', for minutes of one person
            are soon learnt by heart.
    """

    rank: int = 8
    batch: int = 12
    learning_rate: float = 5e-4


def train_motion_lora(
    folders: Sequence[Path],
    held_folders: Sequence[Path],
    weights: Path,
    output: Path,
    recipe: MotionRecipe | None = None,
    *,
    person: str = "",
    minutes: float | None = None,
    steps: int | None = None,
    validate_every: int = 200,
    device: torch.device | str = "cpu",
    resume: bool = True,
    seed: int = 0,
) -> LoraResult:
    """Train an adapter of how one person moves.

    Args:
        folders, held_folders: of shards of that person alone; weights: the model file it is for.
        output: of the adapter; person: whom it is of, noted in it.

    Raises:
        WeightsError: if the model is damaged or lacks a network; PackageError: without peft.
        MCDMError: without clips, or for a model whose sound is encoded by others' networks.
    """
    recipe = recipe or MotionRecipe()
    torch.manual_seed(seed)
    config, states, _ = load_checkpoint(weights)
    modules, codec = PriorModules(config), MotionCodec(config)
    networks = {**dict(modules.named_children()), "motion_codec": codec}
    load_frozen(networks, states, weights)
    modules.to(device)
    codec.to(device)
    own = [load_motion_clips(folder, codec, config) for folder in folders]
    held = [clip for folder in held_folders for clip in load_motion_clips(folder, codec, config)]
    bank = ClipBank(own, device)
    bank.opened = opened_lids(bank, LidAxis.of(codec, modules.present_clip_prior.closed_lids))
    info = AdapterInfo(config.preset, weights_name(states, config, COMPONENTS), float(recipe.rank), person)

    def score() -> dict[str, float]:
        return score_motion(modules, codec, held)

    before = score()
    logger.info("without the adapter: %s", _words(before))
    change = LowRankChange(modules, recipe.rank, MOTION)
    modules.to(device)
    logger.info("%d values train", sum(p.numel() for p in change.parameters()))
    objective = PriorObjective(modules, config, bank, batch=recipe.batch, audio_batch=0, seed=seed)
    settings = adapter_settings(
        output,
        info,
        recipe.learning_rate,
        minutes=minutes,
        steps=steps,
        validate_every=validate_every,
        resume=resume,
        draws=objective.sampler.draws,
    )
    result = train(change, objective, settings, lambda _, step: score())
    logger.info("with the adapter: %s", _words(result.validation))
    return LoraResult(before, result.validation, result.steps)


def score_motion(modules: PriorModules, codec: MotionCodec, clips: Sequence[MotionClip]) -> dict[str, float]:
    """How near predicted motion is to a person's true one on held-out clips (see :data:`TOLD`); empty without any."""
    if not clips:
        return {}
    found = validate_prior(modules, codec, clips)
    return {name: found[name] for name in TOLD}


def _words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items()) or "no held-out clips"
