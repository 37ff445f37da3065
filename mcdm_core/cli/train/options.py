"""Options of ``train``, and which stages take them."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arguments
from . import lora, stock

DEFAULT_MINUTES = {
    "vae": 30,
    "face": 15,
    "reader": 25,
    "codec": 20,
    "audio": 10,
    "prior": 40,
    "unet1": 60,
    "unet3": 30,
    "decoder": 30,
    "sight": 15,
}
PAINTERS = ("unet1", "unet3", "decoder", "sight")
"""Stages that take tars of video in place of shards."""
REFINING = ("codec", "audio", "prior", *PAINTERS, "bundle")
"""Stages that can go on from a model's file, or take from it what they need."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """All options but the command's own."""
    times = ", ".join(f"{name} {minutes}" for name, minutes in DEFAULT_MINUTES.items())
    parser.add_argument(
        "stage",
        choices=(*DEFAULT_MINUTES, "bundle", "all", "lora"),
        metavar="STAGE",
        help=f"one of {', '.join(DEFAULT_MINUTES)}, bundle (one file of all), or all; lora: an adapter of one person",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folder of render-data, then any number of folders of label-data; needed but for bundle",
    )
    parser.add_argument(
        "--shares",
        type=arguments.share,
        nargs="+",
        default=[],
        metavar="SHARE",
        help="how often the stages that paint draw from each folder of --data, in their order (default: alike)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the weights and logs")
    parser.add_argument(
        "--minutes",
        type=arguments.minutes,
        help=f"training time of the stage, or of each stage of all (default: {times})",
    )
    parser.add_argument(
        "--portraits",
        type=Path,
        help="folder of real portraits cut around heads, for the autoencoder and the face boxes, optional",
    )
    parser.add_argument("--videos", type=Path, help="folder of real talking clips likewise, optional")
    parser.add_argument(
        "--speech-clips",
        type=arguments.size,
        default=4000,
        metavar="N",
        help="spoken clips without pictures made for the audio stage; needs the extra 'data' (default: 4000)",
    )
    parser.add_argument(
        "--speech",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of label-speech, or of render-data --speech-only, for the audio stage, optional",
    )
    parser.add_argument(
        "--refine",
        type=Path,
        metavar="FILE",
        help="model file that a stage goes on from: codec (its tokens mean what they meant, so that prior and UNet "
        "stay), audio (its tokens stay near what they were), unet1, unet3, decoder or sight. What --output lacks is "
        "taken from it, by prior and bundle too",
    )
    parser.add_argument(
        "--perceptual",
        type=Path,
        metavar="FILE",
        help="EfficientNet-lite0 as safetensors, for the "
        "perceptual loss of unet1, unet3, decoder and sight, optional; docs/training.md says where from",
    )
    parser.add_argument("--asset", type=Path, help="cache file of the head model, as of render-data")
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, or auto: cuda where there is one, with larger batches (default: auto)",
    )
    parser.add_argument("--threads", type=arguments.count, help="CPU threads")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="tiny", help="(default: tiny)")
    stock.add_arguments(parser)
    lora.add_arguments(parser)
