"""``plan``: memory and hours of the training stages of a preset, before anything is trained."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from .. import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "plan",
        help="memory and hours of training base or small",
        description="Count the operations and the memory of codec, unet1, prior and unet3, and tell the hours on 1, 4 "
        "and 8 GPUs of common kinds.",
    )
    parser.add_argument("--preset", default="base", help="base or small (default: base)")
    parser.add_argument("--gpus", type=arguments.count, nargs="+", default=[1, 4, 8], help="(default: 1 4 8)")
    parser.add_argument(
        "--share",
        type=float,
        help="share of a GPU's peak that a step reaches (default: 0.35, an "
        "assumption; --measure tells it for the GPU at hand)",
    )
    parser.add_argument("--eight-bit", action="store_true", help="with the 8-bit optimiser")
    parser.add_argument("--measure", action="store_true", help="run a step here, and tell what it means for the hours")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; returns the exit status.

    Raises:
        MCDMError: for a preset without such stages.
    """
    import torch

    from ...config import PRESETS
    from ...errors import MCDMError
    from ...training.stock.cost import ASSUMED_SHARE, cost_table, measured_tflops, stage_costs
    from ...training.stock.train import RECIPES, StockCodecRecipe

    if options.preset not in RECIPES:
        raise MCDMError(f"There is no plan for {options.preset!r}; choose one of {', '.join(RECIPES)}.")
    config = PRESETS[options.preset]
    recipe = dataclasses.replace(RECIPES[options.preset], eight_bit=options.eight_bit)
    costs = stage_costs(config, recipe, StockCodecRecipe(eight_bit=options.eight_bit))
    for stage, cost in costs.items():
        print(
            f"{stage}: {cost.values / 1e6:.0f} M values, {cost.trained / 1e6:.0f} M train; {cost.recipe.steps} steps "
            f"of {cost.recipe.batch} samples, each {cost.training / 1e12:.2f} TFLOP and {cost.encoding / 1e12:.2f} to "
            f"encode; {cost.fixed / 1e9:.1f} GB and {cost.activations / 1e9:.2f} GB a sample"
        )
    share = ASSUMED_SHARE if options.share is None else options.share
    measured = None
    if options.measure:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = torch.cuda.get_device_name() if device.type == "cuda" else "this CPU"
        measured = measured_tflops(config, 1, recipe, device)
        print(f"measured on {name}: {measured:.3f} TFLOP/s in stage 1")
    print(f"\nat {share:.0%} of the peak:")
    print(f"{'stage':>5} {'GPU':<16} {'GPUs':>4} {'GB each':>8} {'fits':>5} {'hours':>8}")
    for row in cost_table(costs, tuple(options.gpus), share, measured):
        fits = "yes" if row["fits"] else "no"
        print(f"{row['stage']:>5} {row['gpu']:<16} {row['gpus']:>4} {row['gigabytes']:>8} {fits:>5} {row['hours']:>8}")
    most = max(options.gpus)
    if idle := [stage for stage, cost in costs.items() if most * cost.recipe.accumulate > cost.recipe.batch]:
        print(f"\n{', '.join(idle)}: more GPUs than samples in a step help no further; a larger --batch uses them.")
    return 0
