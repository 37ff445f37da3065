"""``label-speech``: transcribed recordings to spoken training shards, for the audio encoder."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from ...errors import MediaError
from .. import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "label-speech",
        help="turn recordings of many speakers into training speech",
        description="Find when each phone of transcribed English recordings is spoken, make the mouth that says it, "
        "and write spoken shards OUTPUT/train and OUTPUT/val (other speakers) for `train --speech OUTPUT`. Needs the "
        "package's extra 'data'; flite, where installed, pronounces words the dictionary lacks. Can be stopped and "
        "started again: shards that are there are kept, with the mouth they have (--again makes them anew). Use only "
        "voices whose owners agreed to it.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        help="short recordings, a.wav with what is said in a.txt; the "
        "speaker is the folder they lie in, or the name up to the first - or _",
    )
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument(
        "--mouth-of",
        type=Path,
        metavar="DIR",
        help="move the lips as a real speaker's: one person's "
        "talking clips as label-data wrote them, 20 or more (default: a synthetic mouth)",
    )
    parser.add_argument(
        "--transcripts",
        type=Path,
        metavar="DIR",
        help="what is said in these clips: NAME.txt for the "
        "video NAME (GRID's names are a code of the sentence: write it out)",
    )
    parser.add_argument(
        "--keep-apart",
        type=arguments.size,
        metavar="N",
        help="last speakers by name, kept for validation, a fifth at most (default: a tenth)",
    )
    parser.add_argument("--licence", default="unknown", help="noted with every clip")
    parser.add_argument(
        "--seed",
        type=arguments.size,
        default=0,
        help="decides the faces that speak, with a recording's name (default: 0)",
    )
    parser.add_argument("--again", action="store_true", help="label again what is already there")
    parser.add_argument("--asset", type=Path, help="cache file of the head model (default: in the user's cache folder)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Label both splits; returns the exit status."""
    if (options.mouth_of is None) != (options.transcripts is None):
        raise MediaError("--mouth-of needs --transcripts, and the other way round: clips and what is said in them")
    from ...data.real.fitted_mouth import fit_mouth, read_filmed_speech
    from ...data.real.phone_alignment import PhoneAligner
    from ...data.real.speech import SpeechLabeller, list_recordings, write_speech_shards
    from ...data.synthetic.people.head_asset import load_head_asset

    logging.getLogger("mcdm_core").setLevel(logging.INFO)
    train, val = list_recordings(options.folder, options.keep_apart)
    mouth = None
    if options.mouth_of is not None:
        mouth = fit_mouth(read_filmed_speech(options.mouth_of, options.transcripts, PhoneAligner()))
    labeller = SpeechLabeller(load_head_asset(options.asset), options.seed, mouth)
    counts = {
        split: write_speech_shards(
            labeller, recordings, options.output / split, split, options.licence, not options.again
        )
        for split, recordings in (("val", val), ("train", train))
    }
    print(f"{counts['train']} training clips and {counts['val']} for validation in {options.output}")
    return 0
