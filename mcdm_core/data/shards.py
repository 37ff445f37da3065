"""Shards: safetensors files of short labelled clips, written in one go and read lazily.

The keys and types are those of docs/architecture.md (data samples). A shard is written under another name and renamed
when complete, so a reader never sees half a file and an interrupted renderer can go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

    No shard of samples, which have pictures, but it reads like one (training/motion_clips.py).
    """
    tensors: dict[str, Tensor] = {}
    for number, (audio, values, _) in enumerate(clips):
        tensors[f"{number}/audio"] = torch.tensor(audio)  # of its own: stretches overlap
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

    Raises:
        MediaError: if there is no shard, or a file is not one.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str]) -> None:
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.files: list[Path] = []
        for path in map(Path, paths):
            self.files += sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
        if not self.files:
            raise MediaError(f"No shards (*.safetensors) below {[str(p) for p in paths]}; render or prepare data first")
        self._entries: list[tuple[int, int]] = []
        self._infos: list[dict[str, Any]] = []
        self._names: list[set[str]] = []
        self._handles: dict[int, Any] = {}
        for number, file in enumerate(self.files):
            with _open(file) as handle:
                metadata = handle.metadata() or {}
                if "clips" not in metadata:
                    raise MediaError(f"{file} is not a shard of clips: its metadata has no 'clips'")
                infos = json.loads(metadata["clips"])
                names: list[set[str]] = [set() for _ in infos]
                for key in handle.keys():
                    clip, name = key.split("/", 1)
                    names[int(clip)].add(name)
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

    def num_frames(self, index: int) -> int:
        """Frames of a clip, without reading them."""
        return self._slice(index, "frames").get_shape()[0]

    def read(self, index: int, name: str, start: int | None = None, stop: int | None = None) -> Tensor:
        """One tensor of a clip, or rows ``start`` to ``stop`` of it; only these bytes are read.

        Raises:
            KeyError: if the clip has no such tensor.
        """
        if name not in self._names[index]:
            raise KeyError(f"clip {index} has no {name!r}, only {sorted(self._names[index])}")
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

    def _slice(self, index: int, name: str) -> Any:
        number, clip = self._entries[index]
        if number not in self._handles:
            self._handles[number] = _open(self.files[number]).__enter__()
        return self._handles[number].get_slice(f"{clip}/{name}")


def _open(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except Exception as error:
        raise MediaError(f"{path} cannot be read as a safetensors shard: {error}") from error
