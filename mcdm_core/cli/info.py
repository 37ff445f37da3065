"""``info``: what is installed, which weights, their configuration."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__

PACKAGES = ("torch", "diffusers", "safetensors", "librosa", "opencv-python", "av", "numpy", "Pillow", "transformers")


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "info",
        help="show versions, weights and configuration",
        description="Show the versions of what is installed, the components of a weight file and its configuration.",
    )
    parser.add_argument(
        "--weights", type=Path, help="weight file or training folder to describe (default: the shipped one)"
    )
    parser.add_argument("--config", action="store_true", help="print the whole configuration as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the information; returns the exit status."""
    from ..checkpoint import fingerprint, load_checkpoint, load_directory
    from ..pipeline import preset_weights

    print(f"MCDM {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            print(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {name} not installed")
    path = options.weights or preset_weights("tiny")
    if options.weights is None and not path.is_file():
        print(f"weights: the pack's own are not installed ({path})")
        return 0
    config, states, stage = load_directory(path) if path.is_dir() else load_checkpoint(path)
    name = fingerprint(states, config)
    print(f"weights: {path.name}, preset {config.preset}, UNet of stage {stage}, fingerprint {name}")
    for component, state in states.items():
        print(f"  {component}: {sum(tensor.numel() for tensor in state.values()) / 1e6:.2f} M values")
    if options.config:
        print(json.dumps(asdict(config), indent=2))
    return 0
