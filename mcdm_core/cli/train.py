"""``train``: the training stages, each resumable, on shards of ``render-data``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEFAULT_MINUTES = {"vae": 30, "face": 15, "codec": 10, "prior": 20, "unet1": 25, "unet3": 30}


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "train",
        help="train a stage of the tiny preset, or all",
        description="Train in the paper's order: autoencoder, face network, motion codec, present-clip prior "
        "(stage 2), UNet stages 1 and 3; then bundle all into one file. A stopped stage goes on where it was.",
    )
    parser.add_argument("stage", choices=(*DEFAULT_MINUTES, "bundle", "all"))
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ of render-data")
    parser.add_argument("--output", type=Path, required=True, help="folder of the weights and logs")
    parser.add_argument("--minutes", type=float, help="time of the stage (for all: of each stage)")
    parser.add_argument("--portraits", type=Path, help="folder of real portraits for the autoencoder, optional")
    parser.add_argument("--videos", type=Path, help="folder of real talking clips for the autoencoder, optional")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the stages; returns the exit status."""
    import torch

    from ..training.loop import log_to_file

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    log_to_file(arguments.output / "train.log")
    logging.getLogger("mcdm_core").addHandler(logging.StreamHandler())
    stages = [*DEFAULT_MINUTES, "bundle"] if arguments.stage == "all" else [arguments.stage]
    for stage in stages:
        minutes = arguments.minutes or DEFAULT_MINUTES.get(stage, 0)
        _STAGES[stage](arguments, minutes)
    return 0


def _vae(arguments: argparse.Namespace, minutes: float) -> None:
    from ..training.vae import train_vae

    output = arguments.output / "vae.safetensors"
    train_vae(arguments.data, output, minutes=minutes, stills=arguments.portraits, videos=arguments.videos)


def _face(arguments: argparse.Namespace, minutes: float) -> None:
    from safetensors.torch import load_file

    from ..config import TINY
    from ..models.face_network import FaceNetwork
    from ..training.face_boxes import gather_faces, train_face_boxes
    from ..training.face_network import train_face_network

    # The box stage reads whole pictures with the landmarks already trained; it needs a quarter of the time.
    output = arguments.output / "face_network.safetensors"
    landmarks = arguments.output / "face_landmarks.safetensors"
    train_face_network(arguments.data, landmarks, minutes=0.75 * minutes)
    network = FaceNetwork(TINY)
    network.load_state_dict(load_file(str(landmarks)))
    faces = gather_faces(network, arguments.data, arguments.portraits, arguments.videos)
    train_face_boxes(network, faces, [], output, TINY, minutes=0.25 * minutes)


def _codec(arguments: argparse.Namespace, minutes: float) -> None:
    from ..training.codec import train_codec

    train, val = _shards(arguments)
    train_codec([train], arguments.output / "motion_codec.safetensors", minutes, [val])


def _prior(arguments: argparse.Namespace, minutes: float) -> None:
    from ..config import TINY
    from ..training.prior import load_codec, load_motion_clips, train_prior

    train, val = _shards(arguments)
    codec = load_codec(arguments.output / "motion_codec.safetensors", TINY)
    held = {"synthetic": load_motion_clips(val, codec, TINY, 32)}
    groups = [load_motion_clips(train, codec, TINY)]
    train_prior(groups, codec, arguments.output / "present_clip_prior.safetensors", minutes, held)


def _unet1(arguments: argparse.Namespace, minutes: float) -> None:
    from ..training.unet import train_stage1

    train, val = _shards(arguments)
    out = arguments.output
    train_stage1([train], [val], out / "vae.safetensors", out / "unet_stage1.safetensors", minutes=minutes)


def _unet3(arguments: argparse.Namespace, minutes: float) -> None:
    from ..training.unet import train_stage3

    train, val = _shards(arguments)
    out = arguments.output
    train_stage3(
        [train],
        [val],
        out / "vae.safetensors",
        out / "unet.safetensors",
        out / "unet_stage1.safetensors",
        out / "motion_codec.safetensors",
        minutes=minutes,
    )


def _bundle(arguments: argparse.Namespace, minutes: float) -> None:
    from ..checkpoint import bundle

    print(bundle(arguments.output, arguments.output / "mcdm_tiny.safetensors"))


def _shards(arguments: argparse.Namespace) -> tuple[Path, Path]:
    return arguments.data / "train", arguments.data / "val"


_STAGES: dict[str, Callable[[argparse.Namespace, float], None]] = {
    "vae": _vae,
    "face": _face,
    "codec": _codec,
    "prior": _prior,
    "unet1": _unet1,
    "unet3": _unet3,
    "bundle": _bundle,
}
