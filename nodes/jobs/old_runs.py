"""Runs that lie under the output folder: which folders are runs and nothing else, how large and how old."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ...mcdm_core.errors import MediaError, reason
from ...mcdm_core.file_lock import FileLock
from ...mcdm_core.pipeline.run.run_folder import JOURNAL, LOCK

MARKS = (JOURNAL, "state.json")
"""What marks a folder as a run: its journal, or what version 0.1 wrote."""
OURS = (
    *("clip_*.mp4", "video_*.mp4", "motion_*.safetensors", "memory_*.safetensors", "*.part*", LOCK, "*.lock"),
    *(f"{mark}*" for mark in MARKS),
)
"""What a run writes. A folder with anything else in it is left alone."""


@dataclass(frozen=True)
class OldRun:
    """A run's folder, its size in bytes and its age in days."""

    path: Path
    size: int
    days: float


def find_runs(folder: Path, now: float) -> list[OldRun]:
    """The runs below a folder, the oldest first."""
    found = []
    for run in {state.parent for mark in MARKS for state in folder.rglob(mark)}:
        files = [path for path in run.iterdir() if path.is_file()]
        known = all(any(path.match(pattern) for pattern in OURS) for path in run.iterdir())
        if known and not run.is_symlink():
            latest = max(path.stat().st_mtime for path in files)
            found.append(OldRun(run, sum(path.stat().st_size for path in files), (now - latest) / 86_400))
    return sorted(found, key=lambda run: -run.days)


def delete_runs(runs: list[OldRun]) -> tuple[list[OldRun], list[str]]:
    """Delete runs for good, but those that another program is making or holds open.

    Returns:
        The deleted ones, and a line for each that stays.
    """
    deleted, stay = [], []
    for run in runs:
        try:
            FileLock(run.path / LOCK, "a program is making it at this moment").release()
            shutil.rmtree(run.path)
            deleted.append(run)
        except (MediaError, OSError) as error:
            stay.append(f"{run.path.name} stays: {reason(error)}")
    return deleted, stay


def table(runs: list[OldRun], output: Path, heading: str) -> str:
    """The list that the node shows."""
    total = sum(run.size for run in runs) / 2**20
    lines = [f"{heading}: {len(runs)} runs, {total:.1f} MB"]
    for run in runs:
        name = run.path.relative_to(output).as_posix()
        lines.append(f"{name}   {run.size / 2**20:.1f} MB, {run.days:.1f} days old")
    return "\n".join(lines)
