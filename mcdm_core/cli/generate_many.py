"""``generate --manifest``: many videos, each made once, over processes or a cluster.

The folder of the videos is the only state. A video that is there is finished, for ``generate`` moves it there when it
is complete. So the same command goes on where a stopped one was, on any machine that sees the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MCDMError, MediaError
from ..files import part_path, replace_finished

Generate = Callable[[Sequence[str], argparse.Namespace], int]
FAILURES = "failed.jsonl"
_PATHS = ("portrait", "audio", "driver", "weights", "memory-in", "memory-out", "lora", "archive")
_OWN = ("output", "manifest", "workers", "engine", "help")
_BY_SIGNAL = 128
"""Exit statuses above this tell of a signal."""


@dataclass(frozen=True)
class Job:
    """One line of the manifest.

    Attributes:
        arguments: its own, as on a command line; output: the video they make; common: the options of all jobs.
        generate: makes a video of arguments and common options; returns the exit status.
    """

    arguments: tuple[str, ...]
    output: Path
    common: argparse.Namespace
    generate: Generate


def read_jobs(manifest: Path, folder: Path, common: argparse.Namespace, generate: Generate) -> list[Job]:
    """The jobs of a JSON-lines file.

    A line is an object of ``generate``'s options without their dashes, ``{"portrait": "anna.png", "audio": "a.wav",
    "output": "a.mp4", "seed": 3}``; true stands for an option without a value. Paths are relative to the manifest,
    outputs to the folder; a line without an output is named by its number.

    Args:
        common: options of all jobs; a job's own go before them. generate: see :class:`Job`.

    Raises:
        MediaError: if a line is no job, or two make the same video.
    """
    jobs: list[Job] = []
    names: dict[Path, int] = {}
    try:
        lines = Path(manifest).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{manifest} cannot be read ({error}); give a JSON-lines file in UTF-8.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise MediaError(f"Line {number} of {manifest} is no JSON object ({error}).") from error
        output = Path(os.path.normpath((folder / str(values.pop("output", f"{number:05d}.mp4"))).absolute()))
        if folder.absolute() not in output.parents:
            raise MediaError(f"Line {number} of {manifest} would write outside {folder}: {output}.")
        if output in names:
            raise MediaError(f"Lines {names[output]} and {number} of {manifest} both make {output.name}.")
        names[output] = number
        own = (*_arguments(values, number, Path(manifest)), "--output", str(output))
        jobs.append(Job(own, output, common, generate))
    if not jobs:
        raise MediaError(f"{manifest} holds no jobs.")
    return jobs


def _arguments(values: dict[str, Any], number: int, manifest: Path) -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        name = key.replace("_", "-")
        if name in _OWN:
            raise MediaError(f"Line {number} of {manifest} has {key!r}, which is for the whole command.")
        if value is False or value is None:
            continue
        found.append(f"--{name}")
        if value is True:
            continue
        parts = [str(part) for part in (value if isinstance(value, list) else [value])]
        found += [str((manifest.parent / part).absolute()) for part in parts] if name in _PATHS else parts
    return found


def make_video(job: Job) -> str:
    """Make a job's video unless it is there; what ``generate`` printed.

    Raises:
        MCDMError: why it could not be made.
        KeyboardInterrupt: if it was stopped by a signal, which is no failure of the job.
    """
    if job.output.is_file():
        return ""
    common = argparse.Namespace(**{**vars(job.common), "manifest": None})
    said, complained = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            status = job.generate(job.arguments, common)
    except SystemExit as error:
        raise MCDMError(complained.getvalue().strip().splitlines()[-1]) from error
    if status > _BY_SIGNAL:
        raise KeyboardInterrupt
    if status:
        raise MCDMError(complained.getvalue().strip() or f"generate ended with {status}")
    return said.getvalue().strip()


def run_manifest(options: argparse.Namespace, generate: Generate) -> int:
    """Make all videos of ``options.manifest`` below ``options.output``; 1 if some could not be made.

    Failures and their reasons are printed and kept in ``failed.jsonl`` beside the videos.
    """
    from ..data.parallel import run_all

    folder = Path(options.output)
    jobs = read_jobs(options.manifest, folder, options, generate)
    waiting = [job for job in jobs if not job.output.is_file()]
    print(f"{len(jobs) - len(waiting)} of {len(jobs)} videos are there already", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for outcome in run_all(make_video, waiting, options.workers, options.engine):
        job = waiting[outcome.number]
        name = job.output.relative_to(folder.absolute()).as_posix()
        if outcome.error:
            failures.append({"output": name, "reason": outcome.error})
            print(f"{name}: {outcome.error}", flush=True)
        elif outcome.value:
            print(outcome.value, flush=True)
    path = folder / FAILURES
    part = part_path(path)
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in failures), encoding="utf-8")
    replace_finished(part, path)
    print(f"{len(jobs) - len(failures)} of {len(jobs)} videos in {folder}, {len(failures)} failed")
    return 1 if failures else 0
