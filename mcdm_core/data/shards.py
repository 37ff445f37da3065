"""Shards: safetensors files of short labelled clips, written in one go and read lazily.

The keys and types are those of docs/architecture.md (data samples). A shard is written under another name and renamed
when complete. So a reader never sees half a file, and an interrupted renderer can go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import MediaError
from ..face.landmarks import NUM_LANDMARKS, NUM_VALUES
from ..files import write_tensors

SAMPLE_RATE = 16_000
SYNTHETIC = "synthetic"
"""The ``source`` of rendered clips."""
_OPEN_FILES = 64
_READERS = 8

REQUIRED: dict[str, torch.dtype] = {
    "frames": torch.uint8,
    "landmarks": torch.float32,
    "pose": torch.float32,
    "values": torch.float32,
    "audio": torch.int16,
}
OPTIONAL: dict[str, torch.dtype] = {
    "actions": torch.float16,
    "pairs": torch.uint8,
    "pair_landmarks": torch.float32,
    "pair_values": torch.float32,
}
INFO_FIELDS: tuple[str, ...] = (
    "source",
    "identity",
    "language",
    "voice",
    "sentence",
    "fps",
    "split",
    "licence",
    "seed",
    "index",
)


class ShardWriter:
    """Collects clips in memory and writes them as one shard.

    Args:
        path: the file to make; it appears when :meth:`close` succeeds; an exception in a `with` block leaves none.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._tensors: dict[str, Tensor] = {}
        self._clips: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._clips)

    def add(self, tensors: dict[str, Any], info: dict[str, Any]) -> None:
        """Add a clip.

        Args:
            tensors: arrays or tensors by name (``frames``, ``landmarks``, ...), without the clip's number.
            info: the metadata; the fields of :data:`INFO_FIELDS` at least.

        Raises:
            MediaError: if a tensor or a field is missing, or lengths disagree.
        """
        missing = [name for name in REQUIRED if name not in tensors] + [f for f in INFO_FIELDS if f not in info]
        if missing:
            raise MediaError(
                f"A clip for {self.path.name} lacks {missing[0]!r}; needed are {[*REQUIRED, *INFO_FIELDS]}"
            )
        number = len(self._clips)
        kinds = {**REQUIRED, **OPTIONAL}
        clip = {}
        for name, value in tensors.items():
            if name not in kinds:
                raise MediaError(f"A clip has no tensor {name!r}; known are {sorted(kinds)}")
            clip[name] = torch.as_tensor(value).to(kinds[name]).contiguous()
        _check(clip, int(info["fps"]), f"clip {number} of {self.path.name}")
        self._tensors.update({f"{number}/{name}": value for name, value in clip.items()})
        self._clips.append(dict(info))

    def close(self) -> None:
        """Write the file, replacing an older one at once."""
        write_tensors(self.path, self._tensors, {"clips": json.dumps(self._clips, ensure_ascii=False)})

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()


def write_spoken_shard(path: Path | str, clips: Sequence[tuple[np.ndarray, np.ndarray, dict[str, Any]]]) -> None:
    """Write clips of sound alone: audio ``[s]`` int16, values ``[t, 16]`` and the metadata of each.

    No shard of samples, which have pictures, but :class:`ClipDataset` reads it like one.
    """
    tensors: dict[str, Tensor] = {}
    for number, (audio, values, _) in enumerate(clips):
        tensors[f"{number}/audio"] = torch.tensor(audio)  # of its own: segments overlap
        tensors[f"{number}/values"] = torch.from_numpy(values)
    write_tensors(Path(path), tensors, {"clips": json.dumps([info for _, _, info in clips], ensure_ascii=False)})


def _check(clip: dict[str, Tensor], fps: int, name: str) -> None:
    count = len(clip["frames"])
    shapes = {
        "frames": (count, *clip["frames"].shape[1:3], 3),
        "landmarks": (count, NUM_LANDMARKS, 2),
        "pose": (count, 6),
        "values": (count, NUM_VALUES),
    }
    for key, shape in shapes.items():
        if tuple(clip[key].shape) != shape:
            raise MediaError(f"{key} of {name} has shape {tuple(clip[key].shape)}, expected {shape}")
    samples = round(count / fps * SAMPLE_RATE)
    if clip["audio"].shape != (samples,):
        raise MediaError(
            f"audio of {name} has shape {tuple(clip['audio'].shape)}, expected {samples} samples at 16 kHz for "
            f"{count} frames at {fps} frames a second"
        )


class ClipDataset(Dataset):
    """Clips of all shards below some folders (or of given files), memory-mapped and opened on first use.

    Args:
        paths: shard files, or folders searched for ``*.safetensors`` recursively.
        required: whether it is an error if there is no shard.

    Raises:
        MediaError: if there is no shard, or a file is not one.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str], *, required: bool = True) -> None:
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.files: list[Path] = []
        for path in map(Path, paths):
            if required or path.exists():
                self.files += sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
        if required and not self.files:
            raise MediaError(f"No shards (*.safetensors) below {[str(p) for p in paths]}; render or prepare data first")
        self._entries: list[tuple[int, int]] = []
        self._infos: list[dict[str, Any]] = []
        self._names: list[set[str]] = []
        self._handles: dict[int, Any] = {}
        for number, file in enumerate(self.files):
            infos, names = _contents(file)
            self._entries += [(number, i) for i in range(len(infos))]
            self._infos += infos
            self._names += names

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}

    def info(self, index: int) -> dict[str, Any]:
        """Metadata of a clip, without reading its tensors."""
        return self._infos[index]

    def names(self, index: int) -> set[str]:
        """Names of the tensors a clip has."""
        return self._names[index]

    def place(self, index: int) -> tuple[Path, int]:
        """The shard a clip lies in, and its number there."""
        file, number = self._entries[index]
        return self.files[file], number

    def num_frames(self, index: int, name: str = "frames") -> int:
        """Frames of a clip, without reading them; ``name`` is a tensor with one row a frame."""
        return self._slice(index, name).get_shape()[0]

    def read(self, index: int, name: str, start: int | None = None, stop: int | None = None) -> Tensor:
        """One tensor of a clip, or rows ``start`` to ``stop`` of it; only these bytes are read.

        Raises:
            MediaError: if the clip has no such tensor.
        """
        if name not in self._names[index]:
            raise MediaError(f"Clip {index} has no {name!r}, only {', '.join(sorted(self._names[index]))}.")
        return self._slice(index, name)[start:stop]

    def window(self, index: int, start: int, count: int) -> dict[str, Tensor]:
        """Frames ``start`` to ``start + count`` of a clip with their labels and exactly their sound."""
        fps = int(self._infos[index]["fps"])
        sample = {n: self.read(index, n, start, start + count) for n in ("frames", "landmarks", "pose", "values")}
        first = round(start * SAMPLE_RATE / fps)
        sample["audio"] = self.read(index, "audio", first, first + round(count * SAMPLE_RATE / fps))
        return sample

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """All tensors of a clip by name."""
        return {name: self.read(index, name) for name in sorted(self._names[index])}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[i] for i in range(len(self)))

    def clips(
        self, names: Sequence[str] | None = None, limit: int | None = None
    ) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
        """Metadata and tensors of every clip, of the first ``limit`` at most; only those of ``names`` are read."""
        for index in range(len(self) if limit is None else min(limit, len(self))):
            wanted = sorted(self._names[index] if names is None else self._names[index].intersection(names))
            yield self._infos[index], {name: self.read(index, name) for name in wanted}

    def _slice(self, index: int, name: str) -> Any:
        number, clip = self._entries[index]
        if number not in self._handles:
            if len(self._handles) >= _OPEN_FILES:
                del self._handles[next(iter(self._handles))]
            self._handles[number] = _open(self.files[number]).__enter__()
        return self._handles[number].get_slice(f"{clip}/{name}")


def read_rows(
    folder: Path,
    names: Sequence[str],
    every: int = 1,
    seen: set[str] | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor] | None:
    """Every ``every``-th row of some tensors of all clips of a folder's shards, joined along time on ``device``.

    Args:
        names: of tensors ``[t, ...]`` of a clip (``frames``, ``landmarks``, ...).
        seen: names of shards that are passed over; it grows by those read.

    Returns:
        Tensors by name, or None if there is no (new) shard.
    """
    seen = set() if seen is None else seen
    found = sorted(Path(folder).rglob("*.safetensors")) if Path(folder).is_dir() else []
    files = [path for path in found if path.name not in seen]
    seen.update(path.name for path in files)

    def read(path: Path) -> dict[str, Tensor] | None:
        clips = ClipDataset(path)
        if not len(clips):
            return None
        rows = range(len(clips))
        return {name: torch.cat([clips.read(i, name)[::every] for i in rows]).to(device) for name in names}

    with ThreadPoolExecutor(_READERS) as pool:
        parts = [part for part in pool.map(read, files) if part]
    return {name: torch.cat([part[name] for part in parts]) for name in names} if parts else None


def _open(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except Exception as error:
        raise MediaError(f"{path} cannot be read as a safetensors shard: {error}") from error


def _contents(path: Path) -> tuple[list[dict[str, Any]], list[set[str]]]:
    """Metadata of the clips of a shard, and the names of the tensors of each, by its header alone."""
    with _open(path) as handle:
        metadata = handle.metadata() or {}
        if "clips" not in metadata:
            raise MediaError(f"{path} is not a shard of clips: its metadata has no 'clips'")
        try:
            infos = [dict(info) for info in json.loads(metadata["clips"])]
            names: list[set[str]] = [set() for _ in infos]
            for key in handle.keys():
                clip, _, name = key.partition("/")
                names[range(len(infos))[int(clip)]].add(name)
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            raise MediaError(f"{path} is damaged ({error}); make this shard again.") from error
    return infos, names
