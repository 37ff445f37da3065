"""Render synthetic clips into shards, over processes or a Ray cluster; can be stopped and started again."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...errors import MCDMError
from ..parallel import run_all
from ..shards import ShardWriter
from ..tar_shards import TarWriter
from .clip import CLIP_FRAMES, FPS, Clip, ClipMaker
from .people.head_asset import load_head_asset
from .person import PersonNumber
from .speech.neural import NeuralVoices
from .speech.text import SPLITS

_LOGGER = logging.getLogger(__name__)

CLIPS_PER_SHARD = 20
SPOKEN_PER_SHARD, NEURAL_PER_SHARD = 250, 20
_SUFFIXES = (".safetensors", ".tar")
_TALK_CLIPS = 4
"""Clips in a row of one neural voice."""
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
    engine: str = "processes",
    tars: bool = False,
    voices: Path | None = None,
    person: PersonNumber | None = None,
    balanced: bool = False,
) -> list[Path]:
    """Render a split into ``output`` as shards of 20 clips of 3 s.

    Args:
        hours: length of video; or ``clips``: number of clips (one of the two).
        seed: with the split and the clip's number it decides everything about a clip.
        resume: keep the shards that are already there, else render them again.
        asset_path: cache file of the head model, in the user's cache folder by default.
        engine: ``"processes"``, or ``"ray"`` for a cluster whose hosts see the same folders.
        tars: shards as ``curate`` writes them (``tar_shards.py``), their pictures coded as video.
        voices: folder of neural voices (``speech/neural.py``) that speak in place of espeak-ng and flite.
        person: who is in all clips, in place of another person in each.
        balanced: the ten languages alike, each once in ten clips; else a third of the clips is English.

    Returns:
        The shard files in order.

    Raises:
        MCDMError: if not exactly one of ``hours`` and ``clips`` is given, the split is unknown, or ``output`` has clips
            of others than ``person``. Also if a shard could not be made; the other shards are there then.
    """
    if hours is not None and clips is None:
        clips = max(1, round(hours * 3600 * FPS / CLIP_FRAMES))
    elif hours is not None or clips is None:
        raise MCDMError("Rendering needs either hours or clips; give one of them.")
    if split not in SPLITS:
        raise MCDMError(f"Split {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    if person is not None:
        _refuse_others(Path(output), person)
    load_head_asset(asset_path)  # built once, before the workers need it
    suffix = ".tar" if tars else ".safetensors"
    jobs = _jobs(Path(output), "", split, seed, clips, CLIPS_PER_SHARD, asset_path, voices, suffix, person, balanced)
    return _make(_render_shard, jobs, workers, resume, engine)


def _refuse_others(output: Path, person: PersonNumber) -> None:
    """Who trains an adapter on a folder takes it for one person's."""
    for path in sorted(output.glob("*")):
        if path.suffix in _SUFFIXES and not path.stem.rpartition("-")[0].endswith(f"-{person}"):
            raise MCDMError(
                f"{output} has clips of others than {person} ({path.name}); give each person a folder of their own."
            )


class RenderPlan(NamedTuple):
    """Hours of one process's work, and gigabytes, that a length of video takes."""

    hours: float
    gigabytes: float


def plan_rendering(
    hours: float,
    sample: int = 2,
    seed: int = 0,
    asset_path: Path | str | None = None,
    tars: bool = False,
    balanced: bool = False,
) -> RenderPlan:
    """What ``hours`` of video take, by a ``sample`` of clips that is rendered and thrown away.

    The first clip only readies the renderer (it is compiled once a process), and is not counted. Time is the
    processor's, so that a busy machine plans as an idle one.
    """
    from threadpoolctl import threadpool_limits

    load_head_asset(asset_path)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        path = Path(folder) / ("sample.tar" if tars else "sample.safetensors")
        maker = _maker(asset_path, balanced=balanced)
        maker.make(seed, "train", 0)
        started = _processor_seconds()
        with _writer(path) as writer:
            for index in range(1, sample + 1):
                clip = maker.make(seed, "train", index)
                writer.add(clip_tensors(clip), clip.info)
        seconds, size = _processor_seconds() - started, path.stat().st_size
    times = hours * 3600 * FPS / CLIP_FRAMES / sample
    return RenderPlan(times * seconds / 3600, times * size / 1e9)


def _processor_seconds() -> float:
    """What this process and the ended ones that it started have computed."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def render_speech(
    output: Path | str,
    clips: int,
    seed: int = 0,
    split: str = "train",
    workers: int = 2,
    resume: bool = True,
    asset_path: Path | str | None = None,
    engine: str = "processes",
    voices: Path | None = None,
    balanced: bool = False,
) -> list[Path]:
    """Shards of spoken clips of 3 s without pictures (``audio`` and ``values``), for the audio encoder.

    They cost a tenth of a second each, of neural voices two. So it can hear many more voices and sentences than are
    worth rendering. See :func:`render` for the arguments.
    """
    load_head_asset(asset_path)
    prefix, number = ("spoken-", SPOKEN_PER_SHARD) if voices is None else ("spoken-neural-", NEURAL_PER_SHARD)
    jobs = _jobs(Path(output), prefix, split, seed, clips, number, asset_path, voices, balanced=balanced)
    return _make(_speak_shard, jobs, workers, resume, engine)


class _Job(NamedTuple):
    """A shard that is to be made: its file, and what decides its clips."""

    path: Path
    seed: int
    split: str
    indices: range
    asset_path: Path | str | None
    voices: Path | None
    person: PersonNumber | None = None
    balanced: bool = False


def _jobs(
    output: Path,
    prefix: str,
    split: str,
    seed: int,
    clips: int,
    per_shard: int,
    asset_path: Path | str | None,
    voices: Path | None = None,
    suffix: str = ".safetensors",
    person: PersonNumber | None = None,
    balanced: bool = False,
) -> list[_Job]:
    """What :func:`_render_shard` and :func:`_speak_shard` are given, a shard each.

    What decides about clips stands in the shards' names: other clips of the same seed never pass for them.
    """
    whose = ("balanced-" if balanced else "") + ("" if person is None else f"{person}-")
    return [
        _Job(
            output / f"{prefix}{split}-s{seed}-{whose}{first // per_shard:05d}{suffix}",
            seed,
            split,
            range(first, min(first + per_shard, clips)),
            asset_path,
            voices,
            person,
            balanced,
        )
        for first in range(0, clips, per_shard)
    ]


def _make(
    function: Callable[[_Job], int], jobs: list[_Job], workers: int, resume: bool, engine: str = "processes"
) -> list[Path]:
    """Run the jobs whose shard is missing (all without ``resume``) and tell of each; returns all shards in order.

    Raises:
        MCDMError: if some could not be made.
    """
    waiting = [job for job in jobs if not (resume and job.path.is_file())]
    if jobs:
        _LOGGER.info("%d of %d shards to make in %s", len(waiting), len(jobs), jobs[0].path.parent)
    started, frames = time.monotonic(), 0
    failed: list[str] = []
    for done, outcome in enumerate(run_all(function, waiting, workers, engine), start=1):
        name = waiting[outcome.number].path.name
        if outcome.error:
            failed.append(f"{name}: {outcome.error}")
            continue
        frames += outcome.value
        rate = frames / (time.monotonic() - started)
        _LOGGER.info("%s: %d of %d shards, %.1f frames/s", name, done, len(waiting), rate)
    if failed:
        raise MCDMError(
            f"{len(failed)} of {len(waiting)} shards could not be made ({failed[0]}); the same command tries again."
        )
    return [job.path for job in jobs]


_MAKERS: dict[str, ClipMaker] = {}


def _maker(
    asset_path: Path | str | None,
    voices: Path | None = None,
    person: PersonNumber | None = None,
    balanced: bool = False,
) -> ClipMaker:
    """This process's maker of clips."""
    others = (voices, person, "balanced" if balanced else None)
    key = ", ".join([str(asset_path), *(str(other) for other in others if other is not None)])
    if key not in _MAKERS:
        speakers = None if voices is None else NeuralVoices(voices)
        _MAKERS[key] = ClipMaker(load_head_asset(asset_path), voices=speakers, person=person, balanced=balanced)
    return _MAKERS[key]


def _writer(path: Path) -> ShardWriter | TarWriter:
    return TarWriter(path) if path.suffix == ".tar" else ShardWriter(path)


def _render_shard(job: _Job) -> int:
    """Make a shard; returns its number of frames."""
    from threadpoolctl import threadpool_limits

    path, seed, split, indices, asset_path, voices, person, balanced = job
    # The mesh step is many small matrix products: with several BLAS threads it is ten times slower.
    with threadpool_limits(1), _writer(path) as writer:
        for index in indices:
            clip = _maker(asset_path, voices, person, balanced).make(seed, split, index)
            writer.add(clip_tensors(clip), clip.info)
    return len(indices) * CLIP_FRAMES


def _speak_shard(job: _Job) -> int:
    """Make a shard of spoken clips; returns its number of frames."""
    from threadpoolctl import threadpool_limits

    from ..shards import write_spoken_shard

    path, seed, split, indices, asset_path, voices, _, balanced = job
    maker, together = _maker(asset_path, voices, balanced=balanced), 1 if voices is None else _TALK_CLIPS
    with threadpool_limits(1):
        talks = [maker.talk(seed, split, index, together) for index in indices[::together]]
        write_spoken_shard(path, [clip for talk in talks for clip in talk][: len(indices)])
    return len(indices) * CLIP_FRAMES


def clip_tensors(clip: Clip) -> dict[str, object]:
    """The arrays of a clip under the names they have in a shard."""
    return {name: getattr(clip, name) for name in _TENSORS}
