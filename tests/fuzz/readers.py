"""The readers of foreign files, each as a function of bytes that raises nothing but our own errors."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch

from mcdm_core.adapter import merge_adapters
from mcdm_core.checkpoint import load_checkpoint
from mcdm_core.cli.generate_many import read_jobs
from mcdm_core.cli.info import run as info
from mcdm_core.config import TINY
from mcdm_core.data.shards import ClipDataset
from mcdm_core.data.tar_clips import TarClips
from mcdm_core.data.tar_shards import told_in
from mcdm_core.data.wild.manifest import list_sources
from mcdm_core.data.wild.settings import CurateSettings
from mcdm_core.data.wild.source import find_shots, probe, read_frames, read_sound
from mcdm_core.errors import MCDMError
from mcdm_core.media.audio_reader import AudioReader
from mcdm_core.media.portrait import load_portrait, picture_size
from mcdm_core.media.video_reader import VideoReader
from mcdm_core.model import MCDMModel
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline.memory import MotionMemory
from mcdm_core.pipeline.run.run_folder import JOURNAL, RunFolder
from mcdm_core.stored_config import from_json

CORPUS = Path(__file__).parent / "corpus"
_MOST_BLOCKS, _MOST_FRAMES = 2000, 50


def _sound(path: Path) -> None:
    for block in islice(AudioReader(path), _MOST_BLOCKS):
        assert block.ndim == 2 and block.shape[0] in (1, 2)


def _video(path: Path) -> None:
    reader = VideoReader(path)
    for frame in islice(reader.at_rate(25), _MOST_FRAMES):
        assert frame.shape == (3, reader.height, reader.width)


def _picture(path: Path) -> None:
    picture = load_portrait(path, 64)
    assert picture.shape[0] == 3 and max(picture.shape) <= 64 and 0 <= picture.min() <= picture.max() <= 1
    picture_size(path)


def _memory(path: Path) -> None:
    MotionMemory.load(path)


def _motion(path: Path) -> None:
    Motion.load(path)


def _configuration(path: Path) -> None:
    MCDMModel.check_fit(from_json(path.read_text(encoding="utf-8", errors="replace")), {})


def _weights(path: Path) -> None:
    found = load_checkpoint(path)
    MCDMModel.check_fit(found.config, found.states)


ADAPTED = {"unet": {"a.weight": torch.ones(4, 3)}}
"""Weights that the corpus's adapter changes."""


def _adapter(path: Path) -> None:
    changed = merge_adapters(ADAPTED, TINY, [(path, 1.0)])["unet"]["a.weight"]
    assert torch.isfinite(changed).all()


def _journal(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for whole in (CORPUS / "run").iterdir():
            os.symlink(whole, Path(folder) / whole.name)
        shutil.copyfile(path, Path(folder) / JOURNAL)
        with RunFolder(Path(folder)) as run:
            assert len(run.clips) <= 2 and run.frames == 2 * len(run.clips)
            if run.clips:
                assert len(run.motion()) == run.memory().frame_index == run.frames


def _jobs(path: Path) -> None:
    for job in read_jobs(path, path.parent / "videos", argparse.Namespace(), lambda own, common: 0):
        assert path.parent / "videos" in job.output.parents


def _manifest(path: Path) -> None:
    table = path.with_suffix(".jsonl" if path.read_bytes()[:1] == b"{" else ".csv")
    folder = path.with_name(f"{path.stem}_videos")
    try:
        folder.mkdir()
        (folder / "a.mp4").touch()
        shutil.copyfile(path, table)
        list_sources(folder, table)
    finally:
        table.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _shard(path: Path) -> None:
    for _, clip in ClipDataset([path]).clips(limit=4):
        assert all(isinstance(value, torch.Tensor) for value in clip.values())


def _tar(path: Path) -> None:
    told_in(path)
    clips = TarClips([path])
    for index in range(min(4, len(clips))):
        assert clips.told(index) and isinstance(clips.labels(index), dict)
        assert clips.sound(index).ndim == 1 and clips.pictures(index, [0], 32).shape == (1, 32, 32, 3)


def _raw_video(path: Path) -> None:
    facts, settings = probe(path), CurateSettings()
    find_shots(path, facts, settings)
    for frame in islice(read_frames(path, facts, settings.fps, begin=0.5, end=2.0), _MOST_FRAMES):
        assert frame.ndim == 3
    with contextlib.suppress(MCDMError):
        assert read_sound(path, facts).ndim == 1


def _file(path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        info(argparse.Namespace(file=path, weights=None, config=False))


READERS: dict[str, Callable[[Path], None]] = {
    "sound": _sound,
    "video": _video,
    "picture": _picture,
    "memory": _memory,
    "motion": _motion,
    "configuration": _configuration,
    "weights": _weights,
    "adapter": _adapter,
    "journal": _journal,
    "jobs": _jobs,
    "manifest": _manifest,
    "shard": _shard,
    "tar": _tar,
    "raw_video": _raw_video,
    "video_info": _file,
    "tensors_info": _file,
}
_SUFFIXES = {"video_info": ".mp4", "tensors_info": ".safetensors"}
"""Where the name of a file decides."""


def read(kind: str, data: bytes) -> bool:
    """Give a reader these bytes; says whether it took them. Any error but ours goes on."""
    with tempfile.NamedTemporaryFile(suffix=_SUFFIXES.get(kind, ".bin")) as file:
        file.write(data)
        file.flush()
        try:
            READERS[kind](Path(file.name))
        except MCDMError:
            return False
    return True


_SHARED = {
    "tensors_info": ("memory", "motion", "adapter", "weights"),
    "raw_video": ("raw_video", "video", "video_info"),
}


def folders(kind: str) -> list[Path]:
    """Where the corpus of a reader lies."""
    return [CORPUS / name for name in _SHARED.get(kind, (kind,))]


def seeds(kind: str) -> dict[str, bytes]:
    """The corpus of a reader by name. What has once ended otherwise than it should begins with ``damaged_``."""
    return {f"{d.name}/{path.name}": path.read_bytes() for d in folders(kind) for path in sorted(d.iterdir())}
