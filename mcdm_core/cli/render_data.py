"""``render-data``: synthetic talking people to training shards."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "render-data",
        help="render synthetic training clips",
        description="Render synthetic talking people into shards OUTPUT/train and OUTPUT/val. Needs the package's "
        "extra 'data' and the program espeak-ng; can be stopped and started again.",
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--clips", type=int, default=400, help="training clips of 3 seconds (default: 400)")
    parser.add_argument("--val-clips", type=int, default=40, help="validation clips of other people (default: 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Render both splits; returns the exit status."""
    try:
        from ..data.synthetic.render import render
    except ImportError as error:
        print(f"error: {error}. Install the extra: pip install 'mcdm-talking-face[data]'", file=sys.stderr)
        return 1
    logging.getLogger("mcdm_core").setLevel(logging.INFO)
    for split, clips in (("val", arguments.val_clips), ("train", arguments.clips)):
        if clips > 0:
            folder = arguments.output / split
            render(folder, clips=clips, seed=arguments.seed, split=split, workers=arguments.workers)
    return 0
