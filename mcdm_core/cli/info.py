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

PACKAGES = (
    "torch",
    "diffusers",
    "safetensors",
    "librosa",
    "soxr",
    "opencv-python",
    "av",
    "numpy",
    "Pillow",
    "transformers",
)


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "info",
        help="show versions, weights and configuration, or what a file is",
        description="Show the versions of what is installed, the components of a weight file and its configuration. "
        "With FILE: whether a video says that it is synthetic, or what a memory, motion or weight file holds.",
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="video, memory, motion or weight file")
    parser.add_argument(
        "--weights", type=Path, help="weight file or training folder to describe (default: the shipped one)"
    )
    parser.add_argument("--config", action="store_true", help="print the whole configuration as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the information; returns the exit status.

    Raises:
        MCDMError: if a file cannot be read.
    """
    if options.file is not None and options.file.suffix != ".safetensors":
        return _describe_video(options.file)
    if options.file is not None and (line := _description(options.file)):
        print(line)
        return 0
    options.weights = options.file or options.weights
    from ..checkpoint import fingerprint, load_weights
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
    config, states, stage = load_weights(path)
    name = fingerprint(states, config)
    print(f"weights: {path.name}, preset {config.preset}, UNet of stage {stage}, fingerprint {name}")
    for component, state in states.items():
        print(f"  {component}: {sum(tensor.numel() for tensor in state.values()) / 1e6:.2f} M values")
    if options.config:
        print(json.dumps(asdict(config), indent=2))
    return 0


def _describe_video(path: Path) -> int:
    from ..media.transparency.provenance import read_provenance
    from ..media.video_reader import VideoReader

    video, provenance = VideoReader(path), read_provenance(path)
    print(f"{path.name}: video of {video.width}x{video.height} at {video.fps:g} frames a second")
    for tag, note in provenance.notes.items():
        print(f"  {tag}: {note}")
    print("  says that it is synthetic" if provenance.synthetic else "  carries no note of MCDM, which proves nothing")
    for line in _credential_lines(path):
        print(f"  {line}")
    return 0


def _credential_lines(path: Path) -> list[str]:
    from ..errors import PackageError
    from ..media.transparency.credentials import read_credentials

    try:
        credentials = read_credentials(path)
    except PackageError as error:
        return [f"content credentials were not looked for. {error}"]
    if credentials is None:
        return ["carries no content credentials"]
    authority = "a known authority vouches for" if credentials.trusted else "no authority known here vouches for"
    lines = [
        f"content credentials: made with {credentials.program}, signed by {credentials.signer}, whom {authority}",
        *(f"  of the kind {kind.rpartition('/')[2]}" for kind in credentials.sources),
        *(f"  made from {parent}" for parent in credentials.parents),
    ]
    if credentials.whole:
        return [*lines, "  the video is as it was signed"]
    return [*lines, f"  NOT as it was signed: it was changed ({', '.join(credentials.faults)})"]


def _description(path: Path) -> str | None:
    """A line about a memory, a motion or an adapter; None for another file."""
    from ..adapter import ADAPTER_KEY, load_adapter
    from ..errors import MCDMError
    from ..files import read_tensors
    from ..motion.motion import METADATA as MOTION
    from ..motion.motion import Motion
    from ..pipeline.memory import METADATA as MEMORY
    from ..pipeline.memory import MotionMemory

    _, metadata = read_tensors(path, error=MCDMError, what="file of MCDM")
    if ADAPTER_KEY in metadata:
        pairs, info = load_adapter(path)
        of = f" of {info.person}" if info.person else ""
        return f"{path.name}: adapter{of} for {info.preset} ({info.model}), changes {len(pairs)} layers"
    if MOTION in metadata:
        motion = Motion.load(path)
        return f"{path.name}: motion of {len(motion)} frames at {motion.fps:g} a second ({motion.seconds:.2f} s)"
    if MEMORY in metadata or metadata.get("format", "").startswith("mcdm_memory"):
        memory = MotionMemory.load(path)
        return (
            f"{path.name}: motion memory after {memory.frame_index} frames ({memory.clip_index} clips), seed "
            f"{memory.seed}, of the model {memory.fingerprint}, {memory.num_bytes / 2**20:.1f} MiB"
        )
    return None
