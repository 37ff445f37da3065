"""Types of command-line arguments: argparse names them in its message when a value is refused."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipeline import MCDMPipeline


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _at_least(text, 1)


def size(text: str) -> int:
    """A whole number from 0 on."""
    return _at_least(text, 0)


def minutes(text: str) -> float:
    """A time above 0."""
    return _between(text, 0, math.inf, "a time above 0, in minutes")


def hours(text: str) -> float:
    """A time above 0."""
    return _between(text, 0, math.inf, "a time above 0, in hours")


def rate(text: str) -> float:
    """Frames a second, above 0 and up to 120."""
    return _between(text, 0, 120, "a frame rate above 0 and up to 120")


def share(text: str) -> float:
    """A part of something, above 0."""
    return _between(text, 0, math.inf, "a number above 0")


def number(text: str) -> float:
    """A finite number from 0 on."""
    return _between(text, -math.ulp(0.0), math.inf, "a number from 0 on")


def adapter(text: str) -> tuple[Path, float]:
    """An adapter's file, and its strength after a colon (1 without).

    >>> adapter("anna.safetensors:0.8")[1]
    0.8
    """
    name, colon, strength = text.rpartition(":")
    try:
        value = float(strength) if colon else math.nan
    except ValueError:  # the colon of a drive
        value = math.nan
    if math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text!r} has no finite strength")
    return (Path(text), 1.0) if math.isnan(value) else (Path(name), value)


def load_pipeline(
    weights: Path | None = None,
    preset: str = "tiny",
    device: str = "cpu",
    adapters: Sequence[tuple[Path, float]] = (),
) -> MCDMPipeline:
    """What ``--weights`` or ``--preset`` names, with the adapters of ``--lora``."""
    from ..pipeline import MCDMPipeline

    if weights:
        return MCDMPipeline.from_file(weights, device, adapters)
    return MCDMPipeline.from_preset(preset, device, adapters)


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return value


def _between(text: str, low: float, high: float, what: str) -> float:
    """A finite number above ``low`` and up to ``high``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (low < value <= high and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def add_adapters(parser: Any) -> None:
    """Add the option of adapters to the weights."""
    parser.add_argument(
        "--lora",
        type=adapter,
        nargs="+",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="adapters of `train lora`, each with its strength (default: 1)",
    )


def add_mark(parser: Any) -> None:
    """Add the option of a visible mark."""
    parser.add_argument(
        "--mark",
        nargs="?",
        const="AI-generated",
        metavar="TEXT",
        help="write words into the lower right corner of every frame (without TEXT: AI-generated); the file's metadata "
        "say that it is synthetic in any case",
    )


def mark_of(options: argparse.Namespace, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """What puts the mark that was asked for on frames of this height and width; else it leaves them."""
    if not options.mark:
        return lambda frames: frames
    from ..media.transparency.visible_mark import VisibleMark

    return VisibleMark(options.mark, *size)


def add_compile(parser: Any) -> None:
    """Add the option of how the network of the pictures is computed."""
    parser.add_argument(
        "--compile",
        choices=("no", "graphs", "blocks"),
        default="no",
        help="how the network of the pictures is computed: as CUDA graphs, or in blocks that torch compiles; both try "
        "Triton's kernels on a GPU, and go on without where something fails (default: no)",
    )
