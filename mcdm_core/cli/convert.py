"""``convert``: published weights to one MCDM file, from which training starts."""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import arguments

if TYPE_CHECKING:
    from ..config import MCDMConfig
    from ..conversion.assembly import KeyFate

_FILES = {
    "unet": "Stable Diffusion 1.5's UNet, or its whole checkpoint",
    "motion_module": "AnimateDiff v2's motion module",
    "vae": "Stable Diffusion's autoencoder, or the whole checkpoint",
    "clip": "CLIP ViT-L/14",
    "wav2vec": "Wav2Vec 2.0 base",
}
_COMPONENTS = {"vae": "vae", "clip": "image_encoder", "wav2vec": "audio_encoder"}
"""Component that only a published file can fill; without it, it is left out of the result."""


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "convert",
        help="assemble base of published weights",
        description="Put published weights (safetensors, original or diffusers' names) into one MCDM file. MCDM's own "
        "layers are at their start and have to be trained: docs/training.md.",
    )
    for name, what in _FILES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="FILE", help=what)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    parser.add_argument("--preset", default="base", help="preset to assemble (default: base)")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration as JSON in place of a preset (info --config prints one)",
    )
    parser.add_argument(
        "--face", type=Path, metavar="FILE", help="weight file with the face network (default: the shipped one)"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write what became of each key as CSV")
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="number format of the file (default: float16)",
    )
    parser.add_argument(
        "--seed", type=arguments.size, default=0, help="of the layers that start at random (default: 0)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file and print what became of the keys; returns the exit status.

    Raises:
        WeightsError: if a file does not fit, or none is given.
        MediaError: if the result cannot be written.
    """
    import torch
    from torch import nn

    from ..checkpoint import save_checkpoint
    from ..conversion.assembly import PARTS, UNTRAINED_STAGE, place_weights
    from ..errors import WeightsError
    from ..files import check_destination, read_tensors
    from ..model import GivenComponents, MCDMModel
    from ..models.audio_encoder import AudioEncoder
    from ..models.vae import Autoencoder

    files = {part: getattr(options, part) for part in PARTS if getattr(options, part) is not None}
    if not files:
        raise WeightsError("Nothing to convert: give at least one file, --unet for instance.")
    if pickled := [path for path in files.values() if path.suffix in (".ckpt", ".pt", ".pth", ".bin")]:
        raise WeightsError(f"{pickled[0].name} is pickled, which can run any code; get the safetensors file instead.")
    check_destination(options.output, (".safetensors",), [*files.values(), options.face])
    config, face = _with_face_network(_configuration(options), options.face)
    # What a compact preset has in their place is small, trained here, and part of the file.
    left_out = {name for part, name in _COMPONENTS.items() if part not in files and _published(config, name)}
    absent = GivenComponents()
    if "vae" in left_out:
        absent["vae"] = Autoencoder()
    if "audio_encoder" in left_out:
        absent["audio_encoder"] = AudioEncoder()
    if "image_encoder" in left_out:
        absent["image_encoder"] = nn.Identity()
    torch.manual_seed(options.seed)
    model = MCDMModel(config, given=absent)
    parts = {p: read_tensors(f, error=WeightsError, what="safetensors file")[0] for p, f in files.items()}
    fates = place_weights(model, parts)
    del parts
    model.load_states({"face_network": face}, allow_missing=True)
    states = {name: state for name, state in model.states().items() if state}
    save_checkpoint(
        options.output,
        states,
        config,
        dtype=getattr(torch, options.dtype),
        stage=UNTRAINED_STAGE,
        metadata={f"from_{part}": path.name for part, path in files.items()},
    )
    _print_table(fates, files)
    if options.table:
        _write_table(options.table, fates, files)
    values = sum(tensor.numel() for state in states.values() for tensor in state.values())
    print(f"{options.output}: {values / 1e6:.0f} M values of {', '.join(states)}")
    if absent:
        print(f"left out, to be brought by ComfyUI's loaders: {', '.join(absent)}")
    filled = {fate.place.partition(".")[0] for fate in fates if fate.place} | {"face_network"}
    own = [name for name in states if name not in filled]
    print(f"still to be trained: {', '.join(own)}, and the UNet's layers 2 to 4")
    return 0


def _print_table(fates: list[KeyFate], files: dict[str, Path]) -> None:
    """How many keys of each file went where, or why not."""
    counts = Counter((fate.part, fate.place.partition(".")[0], fate.reason) for fate in fates)
    rows = [("given as", "file", "keys", "what became of them")]
    rows += [
        (f"--{part.replace('_', '-')}", files[part].name, str(count), place or f"left out: {why}")
        for (part, place, why), count in counts.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for part, name, count, fate in rows:
        print(f"{part:<{widths[0]}}  {name:<{widths[1]}}  {count:>{widths[2]}}  {fate}")


def _write_table(path: Path, fates: list[KeyFate], files: dict[str, Path]) -> None:
    """Each key of each file with its place or reason, as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "file", "key", "place", "reason"))
        writer.writerows((fate.part, files[fate.part].name, fate.key, fate.place, fate.reason) for fate in fates)


def _configuration(options: argparse.Namespace) -> MCDMConfig:
    from ..config import PRESETS
    from ..errors import WeightsError
    from ..stored_config import from_json

    if options.config is None:
        if options.preset not in PRESETS:
            raise WeightsError(f"There is no preset {options.preset!r}; choose one of {', '.join(PRESETS)}.")
        return PRESETS[options.preset]
    try:
        return from_json(options.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, WeightsError) as error:
        raise WeightsError(f"{options.config} is no configuration ({error}); see info --config.") from error


def _published(config: MCDMConfig, component: str) -> bool:
    """Whether a component is a published network in this configuration."""
    return {
        "vae": config.vae.layout == "stable_diffusion",
        "image_encoder": config.image_encoder.kind == "clip",
        "audio_encoder": config.audio_encoder.kind == "wav2vec2",
    }[component]


def _with_face_network(config: MCDMConfig, path: Path | None) -> tuple[MCDMConfig, Any]:
    """The configuration with the face network of a weight file, which all presets can share, and its weights."""
    from ..checkpoint import load_checkpoint
    from ..errors import WeightsError
    from ..pipeline import preset_weights

    found = load_checkpoint(preset_weights("tiny") if path is None else path)
    if "face_network" not in found.states:
        raise WeightsError(f"{path} holds no face network; give another.")
    return dataclasses.replace(config, face_network=found.config.face_network), found.states["face_network"]
