"""Render synthetic clips into shards, with several processes; can be stopped and started again."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ...errors import MCDMError
from .clip import CLIP_FRAMES, FPS, Clip, ClipMaker
from .people.head_asset import load_head_asset
from .speech.text import SPLITS

_LOGGER = logging.getLogger(__name__)

CLIPS_PER_SHARD = 20
SPOKEN_PER_SHARD = 250
_TENSORS = ("frames", "landmarks", "pose", "values", "audio", "actions", "pairs", "pair_landmarks", "pair_values")


def render(
    output: Path | str,
    hours: float | None = None,
    clips: int | None = None,
    seed: int = 0,
    split: str = "train",
    workers: int = 2,
    resume: bool = True,
    asset_path: Path | str | None = None,
) -> list[Path]:
    """Render a split into ``output`` as shards of 20 clips of 3 s.

    Args:
        hours: length of video; or ``clips``: number of clips (one of the two).
        seed: with the split and the clip's number it decides everything about a clip.
        resume: keep the shards that are already there, else render them again.
        asset_path: cache file of the head model, in the user's cache folder by default.

    Returns:
        The shard files in order.

    Raises:
        ValueError: if not exactly one of ``hours`` and ``clips`` is given or the split is unknown.
    """
    if hours is not None and clips is None:
        clips = max(1, round(hours * 3600 * FPS / CLIP_FRAMES))
    elif hours is not None or clips is None:
        raise MCDMError("Rendering needs either hours or clips; give one of them.")
    if split not in SPLITS:
        raise MCDMError(f"Split {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    load_head_asset(asset_path)  # built once, before the workers need it
    jobs = _jobs(Path(output), "", split, seed, clips, CLIPS_PER_SHARD, asset_path)
    return _make(_render_shard, jobs, workers, resume)


def render_speech(
    output: Path | str,
    clips: int,
    seed: int = 0,
    split: str = "train",
    workers: int = 2,
    asset_path: Path | str | None = None,
) -> list[Path]:
    """Shards of spoken clips of 3 s without pictures (``audio`` and ``values``), for the audio encoder.

    They cost a tenth of a second each, so it can hear many more voices and sentences than are worth rendering. Shards
    that are already there are kept; see :func:`render` for the arguments.
    """
    load_head_asset(asset_path)
    jobs = _jobs(Path(output), "spoken-", split, seed, clips, SPOKEN_PER_SHARD, asset_path)
    return _make(_speak_shard, jobs, workers, resume=True)


def _jobs(
    output: Path, prefix: str, split: str, seed: int, clips: int, per_shard: int, asset_path: Path | str | None
) -> list[tuple]:
    """What :func:`_render_shard` and :func:`_speak_shard` are given, a shard each."""
    return [
        (
            output / f"{prefix}{split}-s{seed}-{first // per_shard:05d}.safetensors",
            seed,
            split,
            range(first, min(first + per_shard, clips)),
            asset_path,
        )
        for first in range(0, clips, per_shard)
    ]


def _make(function: Callable[[tuple], tuple[Path, int]], jobs: list[tuple], workers: int, resume: bool) -> list[Path]:
    """Run the jobs whose shard is missing (all without ``resume``) and tell of each; returns all shards in order."""
    waiting = [job for job in jobs if not (resume and job[0].is_file())]
    if jobs:
        _LOGGER.info("%d of %d shards to make in %s", len(waiting), len(jobs), jobs[0][0].parent)
    started, frames = time.monotonic(), 0
    for done, (path, made) in enumerate(_run(function, waiting, workers), start=1):
        frames += made
        rate = frames / (time.monotonic() - started)
        _LOGGER.info("%s: %d of %d shards, %.1f frames/s", path.name, done, len(waiting), rate)
    return [job[0] for job in jobs]


def _run(function: Callable[[tuple], tuple[Path, int]], jobs: list[tuple], workers: int) -> Iterable[tuple[Path, int]]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    # Not daemonic forks: numba and espeak-ng start afresh in every worker.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap_unordered(function, jobs)


_MAKERS: dict[str, ClipMaker] = {}


def _maker(asset_path: Path | str | None) -> ClipMaker:
    """This process's maker of clips."""
    key = str(asset_path)
    if key not in _MAKERS:
        _MAKERS[key] = ClipMaker(load_head_asset(asset_path))
    return _MAKERS[key]


def _render_shard(job: tuple[Path, int, str, range, Path | str | None]) -> tuple[Path, int]:
    from threadpoolctl import threadpool_limits

    from ..shards import ShardWriter

    path, seed, split, indices, asset_path = job
    # The mesh step is many small matrix products: with several BLAS threads it is ten times slower.
    with threadpool_limits(1), ShardWriter(path) as writer:
        for index in indices:
            clip = _maker(asset_path).make(seed, split, index)
            writer.add(clip_tensors(clip), clip.info)
    return path, len(indices) * CLIP_FRAMES


def _speak_shard(job: tuple[Path, int, str, range, Path | str | None]) -> tuple[Path, int]:
    from threadpoolctl import threadpool_limits

    from ..shards import write_spoken_shard

    path, seed, split, indices, asset_path = job
    with threadpool_limits(1):
        write_spoken_shard(path, [_maker(asset_path).speak(seed, split, index) for index in indices])
    return path, len(indices) * CLIP_FRAMES


def clip_tensors(clip: Clip) -> dict[str, object]:
    """The arrays of a clip under the names they have in a shard."""
    return {name: getattr(clip, name) for name in _TENSORS}
