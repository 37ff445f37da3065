"""``train lora``: minutes of one person's video to an adapter of the model for that person."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .. import arguments

MINUTES, MOTION_MINUTES = 40.0, 10.0


def add_arguments(parser: Any) -> None:
    """Add the options that only this stage has to ``train``'s."""
    group = parser.add_argument_group(
        "lora", "an adapter of one person who agreed to it; data are folders of label-data of that person alone"
    )
    group.add_argument("--weights", type=Path, help="model file the adapter is for (default: the shipped one)")
    group.add_argument("--person", default="", metavar="NAME", help="whom the adapter is of, noted in it")
    group.add_argument(
        "--learn",
        choices=("looks", "motion"),
        default="looks",
        help="mouth and eyes as that person's look, or how the person moves (lora_motion.safetensors); both may be "
        "used together, each with its strength (default: looks)",
    )
    group.add_argument(
        "--rank",
        type=arguments.count,
        help="of the change: larger learns more, is a larger file (default: 16, motion 8)",
    )


def run(options: argparse.Namespace) -> int:
    """Train the adapter; returns the exit status (130 after Ctrl-C; what is learnt so far is kept).

    Raises:
        WeightsError: if the model cannot be used; PackageError: without the extra 'lora'.
    """
    from ...pipeline import preset_weights
    from ...training.lora.motion import MotionRecipe, train_motion_lora
    from ...training.lora.train import LoraRecipe, train_lora

    looks = options.learn == "looks"
    output = options.output / ("lora.safetensors" if looks else "lora_motion.safetensors")
    own = {} if options.rank is None else {"rank": options.rank}
    folders = [folder / "train" for folder in options.data]
    held = [folder / "val" for folder in options.data if any((folder / "val").glob("*.safetensors"))]
    weights = options.weights or preset_weights("tiny")
    minutes = options.minutes
    if minutes is None and options.steps is None:
        minutes = MINUTES if looks else MOTION_MINUTES
    common: dict[str, Any] = {
        "person": options.person,
        "minutes": minutes,
        "steps": options.steps,
        "device": options.device,
    }
    try:
        if looks:
            recipe = LoraRecipe(**own)
            result = train_lora(folders, held, weights, output, recipe, perceptual=options.perceptual, **common)
        else:
            result = train_motion_lora(folders, held, weights, output, MotionRecipe(**own), **common)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    changes = ", ".join(f"{name} {value:.2f} -> {result.after[name]:.2f}" for name, value in result.before.items())
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB after {result.steps} steps; on held-out clips {changes}")
    return 0
