"""``train --preset base`` and ``small``: the stages of presets of Stable Diffusion's layout, on one process or many."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import arguments

STAGES = ("codec", "unet1", "prior", "unet3", "bundle", "lora")
OPTIONS = (
    "start",
    "steps",
    "batch",
    "accumulate",
    "learning_rate",
    "whole_unet",
    "no_checkpointing",
    "eight_bit",
    "float32",
    "track",
    "readers",
)
"""What only these presets take; ``steps`` is taken by ``lora`` of ``tiny``, too."""


def add_arguments(parser: Any) -> None:
    """Add the options that only these presets have to ``train``'s."""
    group = parser.add_argument_group(
        "base and small",
        "data is then a folder of curate; start several processes by "
        "`accelerate launch -m mcdm_core train ...` or torchrun",
    )
    group.add_argument("--start", type=Path, metavar="FILE", help="the assembled model (convert); not for codec")
    group.add_argument("--steps", type=arguments.count, help="optimiser steps, of lora too (base: the paper's 30000)")
    group.add_argument("--batch", type=arguments.count, help="samples a step over all processes (base: 4)")
    group.add_argument("--accumulate", type=arguments.count, help="turns a step is computed in (base: 1)")
    group.add_argument("--learning-rate", type=arguments.number, help="peak (base: the paper's 1e-5)")
    group.add_argument(
        "--whole-unet", action="store_true", help="in stage 3 train the UNet's own weights too, which the paper keeps"
    )
    group.add_argument("--no-checkpointing", action="store_true", help="keep activations: faster, more memory")
    group.add_argument(
        "--eight-bit",
        action="store_true",
        help="keep the optimiser's moments in 8 bits, a quarter of their memory; needs bitsandbytes",
    )
    group.add_argument("--float32", action="store_true", help="compute in float32 instead of bfloat16")
    group.add_argument(
        "--track",
        choices=("tensorboard", "wandb"),
        help="send the numbers of the log to TensorBoard's files in OUTPUT/tensorboard, or to the project mcdm of "
        "Weights & Biases (WANDB_MODE=offline keeps them here); its package has to be installed",
    )
    group.add_argument("--readers", type=arguments.size, help="processes that decode video (default: 4)")


def refuse_for_tiny(options: argparse.Namespace) -> None:
    """Refuse options that ``tiny`` would not heed.

    Raises:
        MCDMError: if one of them was given.
    """
    from ...errors import MCDMError

    given = [name for name in OPTIONS if getattr(options, name) and not (name == "steps" and options.stage == "lora")]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise MCDMError(f"{names}: an option of the presets base and small; tiny's stages are limited by --minutes.")


def run(options: argparse.Namespace) -> int:
    """Run one stage; returns the exit status (130 after Ctrl-C; the weights so far are kept).

    Raises:
        WeightsError: if something to start from is missing, or the stage is none of these presets'.
        MediaError: if there are no data.
    """
    from ...data.folders import check_for_training
    from ...errors import MediaError, WeightsError
    from ...training.loop import log_to_file
    from ...training.workers import join_workers

    if options.stage not in STAGES:
        raise WeightsError(
            f"Stage {options.stage} is not trained for {options.preset} here. Choose one of {', '.join(STAGES)}."
        )
    if options.start is None and options.stage != "codec":
        raise WeightsError("Nothing to start from: give --start and the file that `python -m mcdm_core convert` made.")
    if options.stage != "bundle" and not options.data:
        raise MediaError("No data: give --data and the folder that `python -m mcdm_core curate` made.")
    if options.stage == "codec":
        check_for_training(options.data)
    options.output.mkdir(parents=True, exist_ok=True)
    workers, device = join_workers(options.device)
    if workers.first:
        log_to_file(options.output / "train.log")
    try:
        if options.stage == "bundle":
            _bundle(options)
        elif options.stage == "codec":
            _codec(options, workers, device)
        else:
            _from_video(options, workers, device)
    except KeyboardInterrupt:
        return 130
    return 0


def _from_video(options: argparse.Namespace, workers: Any, device: Any) -> None:
    """A stage that reads curated video: 1, 2 or 3, or an adapter."""
    from ...training.lora.train import LoraRecipe
    from ...training.stock.prior import train_stock_prior
    from ...training.stock.train import ADAPTER_CHANGES, RECIPES, StockRecipe, train_stock, with_changes
    from ...training.tracking import tracking

    adapter = options.stage == "lora"
    stage = {"unet1": 1, "prior": 2}.get(options.stage, 3)
    changes = {
        "steps": options.steps,
        "batch": options.batch,
        "accumulate": options.accumulate,
        "learning_rate": options.learning_rate,
        "readers": options.readers,
        "checkpointing": False if options.no_checkpointing else None,
        "bfloat16": False if options.float32 else None,
        "eight_bit": options.eight_bit or None,
        # In stage 3 only the paper's layers train, unless the UNet is asked for.
        "backbone": options.whole_unet if stage == 3 else None,
        "rank": (options.rank or LoraRecipe.rank) if adapter else None,
    }
    recipe = RECIPES.get(options.preset, StockRecipe())
    recipe = with_changes(with_changes(recipe, ADAPTER_CHANGES if adapter else {}), changes)
    start = [options.start] if stage == 1 or adapter else [options.start, *_trained(options.output)]
    names = {1: "unet_stage1", 2: "present_clip_prior", 3: "unet"}
    output = options.output / f"{'lora' if adapter else names[stage]}.safetensors"
    common = {"workers": workers, "device": device, "minutes": options.minutes}
    with tracking(options.track if workers.first else None, output) as tracker:
        if stage == 2:
            train_stock_prior(options.data[0], start, output, recipe, tracker=tracker, **common)
        else:
            train_stock(stage, options.data[0], start, output, recipe, tracker=tracker, person=options.person, **common)


def _trained(output: Path) -> list[Path]:
    """The folder of training, if an earlier stage left weights there."""
    unfinished = (".resume", "_training")
    return [output] if any(not path.stem.endswith(unfinished) for path in output.glob("*.safetensors")) else []


def _codec(options: argparse.Namespace, workers: Any, device: Any) -> None:
    """The motion codec, on shards of ``render-data`` and ``label-data`` as tiny's is."""
    from ...config import PRESETS
    from ...data.folders import holding_clips
    from ...training.codec.train import train_codec
    from ...training.stock.train import StockCodecRecipe, with_changes
    from ...training.tracking import tracking

    changes: dict[str, object] = {
        "learning_rate": options.learning_rate,
        "couples": options.batch,
        "eight_bit": options.eight_bit or None,
    }
    recipe = with_changes(StockCodecRecipe(), changes)
    output = options.output / "motion_codec.safetensors"
    with tracking(options.track if workers.first else None, output) as tracker:
        train_codec(
            [folder / "train" for folder in options.data],
            output,
            options.minutes,
            holding_clips([folder / "val" for folder in options.data], speech=True),
            PRESETS[options.preset],
            steps=options.steps or (None if options.minutes else recipe.steps),
            device=device,
            couples=recipe.couples,
            quadruples=recipe.quadruples,
            learning_rate=recipe.learning_rate,
            validate_every=recipe.validate_every,
            eight_bit=recipe.eight_bit,
            workers=workers,
            tracker=tracker,
        )


def _bundle(options: argparse.Namespace) -> None:
    import torch

    from ...checkpoint import load_directory, save_checkpoint
    from ...training.stock.train import load_parts

    config, states = load_parts([options.start, options.output])
    target = options.output / f"mcdm_{config.preset}.safetensors"
    stage = load_directory(options.output, config).stage
    save_checkpoint(target, states, config, dtype=torch.float16, stage=stage)
    print(target)
