"""``train lora``: minutes of one person's video to an adapter of the model for that person."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import arguments

MINUTES = 40.0


def add_arguments(parser: Any) -> None:
    """Add the options that only this stage has to ``train``'s."""
    group = parser.add_argument_group(
        "lora", "an adapter of one person who agreed to it; data are folders of label-data of that person alone"
    )
    group.add_argument("--weights", type=Path, help="model file the adapter is for (default: the shipped one)")
    group.add_argument("--person", default="", metavar="NAME", help="whom the adapter is of, noted in it")
    group.add_argument(
        "--rank", type=arguments.count, help="of the change: larger learns more, is a larger file (default: 16)"
    )


def run(options: argparse.Namespace) -> int:
    """Train the adapter; returns the exit status (130 after Ctrl-C; what is learnt so far is kept).

    Raises:
        WeightsError: if the model cannot be used; PackageError: without the extra 'lora'.
    """
    from ..pipeline import preset_weights
    from ..training.lora.train import LoraRecipe, train_lora

    output = options.output / "lora.safetensors"
    recipe = LoraRecipe() if options.rank is None else LoraRecipe(rank=options.rank)
    try:
        result = train_lora(
            [folder / "train" for folder in options.data],
            [folder / "val" for folder in options.data if any((folder / "val").glob("*.safetensors"))],
            options.weights or preset_weights("tiny"),
            output,
            recipe,
            person=options.person,
            perceptual=options.perceptual,
            minutes=MINUTES if options.minutes is None else options.minutes,
            device=options.device,
        )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    changes = ", ".join(
        f"{name} {result.before[name]:.2f} -> {result.after[name]:.2f} dB" for name in ("mouth", "lids")
    )
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB after {result.steps} steps; on held-out clips {changes}")
    return 0
