"""Clips of tar shards, as ``curate`` writes them, read by number: only the bytes of the clips that are asked for."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..media.opening import open_media

_PIECES = ("mp4", "flac", "npz", "json")


class _Place(NamedTuple):
    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class TarClips:
    """The clips of some tars, in the order of the tars. Opening reads the tars' headers and the clips' records alone.

    Args:
        files: tars of ``curate``; at_least: frames of a clip, shorter ones are left out.

    Raises:
        MediaError: if there is no such clip, or a file is no tar of clips.
    """

    def __init__(self, files: Sequence[Path], at_least: int = 1) -> None:
        self._told: list[dict[str, Any]] = []
        self._places: list[dict[str, _Place]] = []
        for file in files:
            for places in _clips_of(file):
                told = json.loads(places["json"].read())
                if told["frames"] >= at_least:
                    self._told.append(told)
                    self._places.append(places)
        if not self._told:
            raise MediaError(f"The {len(files)} tars hold no clips of {at_least} frames; curate longer videos.")
        self.frames = np.array([told["frames"] for told in self._told])
        """Frames of each clip ``[n]``."""

    def __len__(self) -> int:
        return len(self._told)

    def told(self, index: int) -> dict[str, Any]:
        """What the curation wrote of a clip: its person, language, licence, measurements."""
        return self._told[index]

    def labels(self, index: int) -> dict[str, NDArray[np.float32]]:
        """``landmarks`` ``[t, 68, 2]``, ``pose`` ``[t, 6]``, ``values`` ``[t, 16]``, ``squares`` ``[t, 3]``."""
        with np.load(io.BytesIO(self._places[index]["npz"].read()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def pictures(self, index: int, wanted: Sequence[int], size: int | None = None) -> NDArray[np.uint8]:
        """Frames ``[n, h, w, 3]`` of a clip by number, in the order asked for.

        Args:
            size: side in pixels; by default the file's.

        Raises:
            MediaError: if the clip ends before one of them.
        """
        import cv2

        needed, last = set(wanted), max(wanted)
        found: dict[int, NDArray[np.uint8]] = {}
        with self._open(index, "mp4") as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for number, frame in enumerate(container.decode(stream)):
                if number in needed:
                    pixels = frame.to_ndarray(format="rgb24")
                    if size is not None and pixels.shape[0] != size:
                        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
                    found[number] = np.asarray(pixels, np.uint8)
                if number >= last:
                    break
        if len(found) < len(needed):
            raise MediaError(f"{self._name(index)} has {len(found)} of {len(needed)} frames; curate its video again.")
        return np.stack([found[number] for number in wanted])

    def sound(self, index: int) -> NDArray[np.int16]:
        """The sound ``[s]`` at 16 kHz."""
        with self._open(index, "flac") as container:
            parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(container.streams.audio[0])]
        return np.concatenate(parts).astype(np.int16)

    def _name(self, index: int) -> str:
        return f"{self._told[index]['key']} of {self._places[index]['json'].file.name}"

    def _open(self, index: int, kind: str) -> Any:
        return open_media(io.BytesIO(self._places[index][kind].read()), name=self._name(index))


def _clips_of(file: Path) -> list[dict[str, _Place]]:
    """Where the pieces of each whole clip of a tar lie."""
    clips: dict[str, dict[str, _Place]] = {}
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                clips.setdefault(key, {})[kind] = _Place(file, member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise MediaError(f"{file} cannot be read as a tar of clips ({error}); curate again.") from error
    return [places for places in clips.values() if set(_PIECES) <= set(places)]
