"""``label-data``: real talking video or portraits to training shards, labelled by the face network."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from .. import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "label-data",
        help="label real clips or portraits for training",
        description="Label a folder of talking clips (at most a minute each, one person in view) or of portraits with "
        "the face network and write shards OUTPUT/train and OUTPUT/val. Can be stopped and started again: shards that "
        "are there are kept. Use only pictures and voices whose owners agreed to it.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--videos", type=Path, help="folder of talking clips")
    source.add_argument("--stills", type=Path, help="folder of portraits")
    source.add_argument(
        "--curated",
        type=Path,
        help="output of curate: its labels, splits and notes are taken as they are, so only --size and --again count",
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, help="weight file or training folder with the face network (default: the shipped one)"
    )
    parser.add_argument(
        "--teacher",
        choices=("mediapipe",),
        help="read lips, lids, brows and outline by this model instead; needs the extra 'teach'",
    )
    parser.add_argument("--size", type=arguments.count, default=128, help="side of the stored crops (default: 128)")
    parser.add_argument(
        "--head-cut", action="store_true", help="the pictures are cut to a square around the head: faster and surer"
    )
    parser.add_argument(
        "--keep-apart",
        type=arguments.size,
        metavar="N",
        help="last files by name, kept for validation, a fifth at most (default: 50 clips or 40 portraits)",
    )
    parser.add_argument("--limit", type=arguments.count, help="at most so many training files, spread over the folder")
    parser.add_argument("--frames", type=arguments.count, default=40, help="length of a portrait's clip (default: 40)")
    parser.add_argument("--licence", default="unknown", help="noted with every clip")
    parser.add_argument("--identity", default="", help="noted with every clip (default: the file's name)")
    parser.add_argument("--language", default="en", help="of the clips, noted with them (default: en)")
    parser.add_argument("--again", action="store_true", help="label again what is already there")
    parser.add_argument("--threads", type=arguments.count, help="CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Label both splits; returns the exit status."""
    import torch

    from ...checkpoint import load_face_network
    from ...data.real.stills import list_stills, write_still_shards
    from ...data.real.teacher import MeshTeacher
    from ...data.real.video import list_clips, write_real_shards
    from ...pipeline import preset_weights

    if options.threads:
        torch.set_num_threads(options.threads)
    messages = logging.getLogger("mcdm_core")
    messages.setLevel(logging.INFO)
    if options.curated is not None:
        return _take_curated(options)
    teacher = MeshTeacher() if options.teacher else None
    network = load_face_network(options.weights or preset_weights("tiny"))
    common = {
        "size": options.size,
        "teacher": teacher,
        "head_cut": options.head_cut,
        "licence": options.licence,
        "identity": options.identity,
        "resume": not options.again,
    }
    if options.videos is not None:
        train, val = list_clips(options.videos, 50 if options.keep_apart is None else options.keep_apart)
    else:
        train, val = list_stills(options.stills, 40 if options.keep_apart is None else options.keep_apart)
    if options.limit is not None and options.limit < len(train):
        train = [train[i * len(train) // options.limit] for i in range(options.limit)]
    counts = {}
    for split, paths in (("val", val), ("train", train)):
        folder = options.output / split
        if options.videos is not None:
            counts[split] = write_real_shards(network, paths, folder, split, language=options.language, **common)
        else:
            counts[split] = write_still_shards(network, paths, folder, split, frames=options.frames, **common)
    print(f"{counts['train']} training clips and {counts['val']} for validation in {options.output}")
    return 0


def _take_curated(options: argparse.Namespace) -> int:
    """Shards of a curated set, by its own splits; returns the exit status.

    Raises:
        MediaError: if the folder holds no training shards.
    """
    from ...data.wild.labels import write_curated_shards
    from ...errors import MediaError

    counts = {
        split: write_curated_shards(options.curated, options.output / split, split, options.size, not options.again)
        for split in ("train", "val")
    }
    if not counts["train"]:
        raise MediaError(f"{options.curated} holds no tars in train/; make them with `python -m mcdm_core curate`.")
    print(f"{counts['train']} training clips and {counts['val']} for validation in {options.output}")
    return 0
