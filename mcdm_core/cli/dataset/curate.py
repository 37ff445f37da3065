"""``curate``: a folder of raw videos to a set of talking faces."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from .. import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "curate",
        help="make a training set of raw videos",
        description="Cut raw videos into clips of one whole talking face each, drop what is no good, with the reason, "
        "and write tar shards, an index, a report and a data card. Can be stopped and started again. Only videos whose "
        "manifest says consent are taken; needs the extra 'wild'.",
    )
    parser.add_argument("input", type=Path, metavar="IN", help="folder of videos, searched with its subfolders")
    parser.add_argument("output", type=Path, metavar="OUT", help="folder of the set")
    parser.add_argument(
        "--manifest", type=Path, help="CSV or JSON lines: file, identity, language, consent, licence, url of each video"
    )
    parser.add_argument(
        "--all-consented",
        action="store_true",
        help="everybody in all videos agreed to their use; the manifest's rows go before this",
    )
    parser.add_argument("--weights", type=Path, help="weight file with the face network (default: the shipped one)")
    parser.add_argument("--workers", type=arguments.count, default=1, help="videos at a time (default: 1)")
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="processes of this machine, or a Ray cluster (default: processes)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="thresholds",
        help="change a threshold, for instance min_face=64; see CurateSettings",
    )
    parser.add_argument(
        "--quality",
        type=Path,
        metavar="FILE",
        help="a network of picture quality that you have as ONNX: one number a picture, the more the better; say from "
        "where on with --set min_quality=NUMBER",
    )
    parser.add_argument(
        "--syncnet",
        type=Path,
        nargs=2,
        metavar=("LIPS", "VOICE"),
        help="SyncNet's two networks as ONNX, to judge whether lips and voice belong together",
    )
    parser.add_argument("--tidy", action="store_true", help="delete the work folder when the set is finished")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Curate and print the counts; returns the exit status.

    Raises:
        MediaError: for an unusable folder, manifest or threshold.
    """
    from ...data.wild.curate import curate, remove_work
    from ...data.wild.manifest import list_sources
    from ...data.wild.report import summary
    from ...pipeline import preset_weights
    from ...published.clip_judges import JudgeFiles

    logging.getLogger("mcdm_core").setLevel(logging.INFO)
    settings = thresholds(options.thresholds)
    sources = list_sources(options.input, options.manifest, options.all_consented)
    weights = options.weights or preset_weights("tiny")
    judges = JudgeFiles(options.quality, None if options.syncnet is None else tuple(options.syncnet))
    records = curate(sources, options.output, weights, settings, options.workers, options.engine, judges)
    if options.tidy:
        remove_work(options.output)
    numbers = summary(records, settings)
    print(json.dumps({key: numbers[key] for key in ("videos", "clips", "seconds", "identities", "dropped")}))
    return 0


def thresholds(changes: list[str]) -> Any:
    """The settings with changes ``NAME=VALUE``.

    Raises:
        MediaError: for an unknown name or a value that is no number.
    """
    from ...data.wild.settings import CurateSettings
    from ...errors import MediaError

    fields = {field.name: type(field.default) for field in dataclasses.fields(CurateSettings)}
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in fields:
            raise MediaError(f"There is no threshold {name!r}; known are {', '.join(fields)}.")
        try:
            values[name] = fields[name](text)
        except ValueError as error:
            raise MediaError(f"{change!r}: {name} is a number, {fields[name].__name__}.") from error
    return CurateSettings(**values)
