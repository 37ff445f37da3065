"""``render-data``: synthetic talking people to training shards."""

from __future__ import annotations

import argparse
import functools
import logging
from pathlib import Path
from typing import Any

from .. import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "render-data",
        help="render synthetic training clips",
        description="Render synthetic talking people into shards OUTPUT/train, OUTPUT/val and OUTPUT/test. Needs the "
        "package's extra 'data' and the system package espeak-ng (flite adds voices of real speakers to the English "
        "clips); can be stopped and started again. The first run prepares the head model for some minutes.",
    )
    parser.add_argument("output", type=Path, help="folder to make")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--clips", type=arguments.size, default=400, help="training clips of 3 seconds (default: 400)")
    length.add_argument("--hours", type=arguments.hours, help="hours of training video instead")
    parser.add_argument(
        "--val-clips",
        type=arguments.size,
        default=40,
        help="validation clips, of other people and other sentences (default: 40)",
    )
    parser.add_argument("--test-clips", type=arguments.size, default=40, help="test clips, of yet others (default: 40)")
    parser.add_argument(
        "--seed",
        type=arguments.size,
        default=0,
        help="with a clip's number it decides everything about the clip (default: 0)",
    )
    parser.add_argument(
        "--person",
        metavar="NAME",
        help="the same person in all clips of all splits, with one language, voice and manner of moving, for `train "
        "lora`: a number, or the identity of a rendered clip as synthetic-7-test-0, for which 7 is short. Sentences, "
        "light, camera, background and movement differ from clip to clip (default: another person in each clip)",
    )
    parser.add_argument("--workers", type=arguments.count, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="processes of this machine, or a Ray cluster (RAY_ADDRESS) whose hosts see the same folders "
        "(default: processes)",
    )
    parser.add_argument(
        "--format",
        choices=("safetensors", "tar"),
        default="safetensors",
        help="safetensors, whose pictures are exact, for tiny's stages; or tar shards as curate's, whose pictures are "
        "coded as video, for base and small, label-data --curated and other programs (default: safetensors)",
    )
    parser.add_argument(
        "--languages",
        choices=("balanced", "english"),
        help="balanced: each of the ten languages once in ten clips; english: a third of the clips is English, as "
        "tiny was trained (default: balanced with --format tar, else english)",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="render nothing but a sample, and tell the hours and "
        "gigabytes that --hours or --clips of training video take",
    )
    parser.add_argument(
        "--speech-only",
        action="store_true",
        help="no pictures, only sound and what the face does, for `train audio --speech OUTPUT`",
    )
    parser.add_argument(
        "--neural-voices",
        type=Path,
        metavar="DIR",
        help="Kokoro's voices speak and sing in place of espeak-ng and flite: model.onnx, vocab.json and voices/*.bin; "
        "needs the package onnxruntime; docs/training.md says where from",
    )
    parser.add_argument("--again", action="store_true", help="render again what is already there")
    parser.add_argument("--asset", type=Path, help="cache file of the head model (default: in the user's cache folder)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render the splits; returns the exit status.

    Raises:
        MCDMError: if some shards could not be made.
    """
    from ...data.synthetic.clip import CLIP_FRAMES, FPS
    from ...data.synthetic.person import PersonNumber
    from ...data.synthetic.render import plan_rendering, render, render_speech
    from ...data.tar_shards import index_tars
    from ...errors import MCDMError

    logging.getLogger("mcdm_core").setLevel(logging.INFO)
    clips, tars = options.clips, options.format == "tar"
    balanced = tars if options.languages is None else options.languages == "balanced"
    person = None if options.person is None else PersonNumber.parse(options.person)
    if person is not None and options.speech_only:
        raise MCDMError("--person goes not with --speech-only: sound without pictures is to be of many voices.")
    if options.speech_only and (tars or options.plan):
        raise MCDMError("--speech-only goes with neither --format tar nor --plan: these are for clips with pictures.")
    if options.hours is not None:
        clips = max(1, round(options.hours * 3600 * FPS / CLIP_FRAMES))
    if options.plan:
        length = clips * CLIP_FRAMES / FPS / 3600
        plan = plan_rendering(length, seed=options.seed, asset_path=options.asset, tars=tars, balanced=balanced)
        print(
            f"{length:.2f} h of video: {plan.gigabytes:.1f} GB, {plan.hours:.1f} h of one process, "
            f"{plan.hours / options.workers:.1f} h of {options.workers}"
        )
        return 0
    for split, count in (("val", options.val_clips), ("test", options.test_clips), ("train", clips)):
        if count <= 0:
            continue
        make = render_speech if options.speech_only else functools.partial(render, tars=tars, person=person)
        make(
            options.output / split,
            clips=count,
            seed=options.seed,
            split=split,
            workers=options.workers,
            resume=not options.again,
            asset_path=options.asset,
            engine=options.engine,
            voices=options.neural_voices,
            balanced=balanced,
        )
    if tars:
        index_tars(options.output)
    return 0
