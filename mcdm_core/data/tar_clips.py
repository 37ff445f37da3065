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

from ..errors import MediaError, reason
from ..media.opening import decoding_errors, open_media

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
                told = _told(places["json"])
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
        """``landmarks`` ``[t, 68, 2]``, ``pose`` ``[t, 6]``, ``values`` ``[t, 16]``, ``squares`` ``[t, 3]``.

        Raises:
            MediaError: if they cannot be read.
        """
        try:
            with np.load(io.BytesIO(self._places[index]["npz"].read()), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # zip, its packing and NumPy have errors of many kinds for damaged files
            raise self._damaged(index, "labels", error) from error

    def pictures(self, index: int, wanted: Sequence[int], size: int | None = None) -> NDArray[np.uint8]:
        """Frames ``[n, h, w, 3]`` of a clip by number, in the order asked for.

        Args:
            size: side in pixels; by default the file's.

        Raises:
            MediaError: if the clip ends before one of them, or cannot be read.
        """
        import cv2

        needed, last = set(wanted), max(wanted)
        found: dict[int, NDArray[np.uint8]] = {}
        with self._open(index, "mp4") as container:
            try:
                stream = container.streams.video[0]
                stream.thread_type = "NONE"
                for number, frame in enumerate(container.decode(stream)):
                    if number in needed:
                        pixels = frame.to_ndarray(format="rgb24")
                        if size is not None and pixels.shape[:2] != (size, size):
                            pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
                        found[number] = np.asarray(pixels, np.uint8)
                    if number >= last:
                        break
            except decoding_errors() as error:
                raise self._damaged(index, "pictures", error) from error
        if len(found) < len(needed):
            raise MediaError(f"{self._name(index)} has {len(found)} of {len(needed)} frames; curate its video again.")
        return np.stack([found[number] for number in wanted])

    def sound(self, index: int) -> NDArray[np.int16]:
        """The sound ``[s]`` at 16 kHz.

        Raises:
            MediaError: if it cannot be read.
        """
        with self._open(index, "flac") as container:
            try:
                parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(container.streams.audio[0])]
                return np.concatenate(parts).astype(np.int16)
            except (*decoding_errors(), ValueError) as error:  # the last: no sound in it
                raise self._damaged(index, "sound", error) from error

    def _name(self, index: int) -> str:
        return f"{self._told[index]['key']} of {self._places[index]['json'].file.name}"

    def _damaged(self, index: int, what: str, error: Exception) -> MediaError:
        return MediaError(
            f"The {what} of {self._name(index)} cannot be read ({reason(error)}); curate its video again."
        )

    def _open(self, index: int, kind: str) -> Any:
        return open_media(io.BytesIO(self._places[index][kind].read()), name=self._name(index))


def _told(place: _Place) -> dict[str, Any]:
    try:
        told = dict(json.loads(place.read()))
        if type(told["frames"]) is int and isinstance(told["key"], str):
            return told
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise MediaError(f"{place.file} holds a clip that does not say what it is; curate again.")


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
