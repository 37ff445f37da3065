"""Sets as they are handed on: tar shards that WebDataset reads, and a parquet index for pandas and ``datasets``.

Of each clip ``KEY.mp4`` (pictures), ``KEY.flac`` (16 kHz), ``KEY.npz`` (labels) and ``KEY.json`` (what is known of it).
The same clips give the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from ..files import part_path, replace_finished
from ..media.audio import MODEL_SAMPLE_RATE
from ..media.video_writer import EVERY_RUN_ALIKE

INDEX = "index.parquet"
LABELS = ("landmarks", "pose", "values", "actions")
"""Tensors of a rendered clip that go into its ``npz``, where it has them."""
_QUALITY = "14"
"""crf of x264: hardly told from the original."""


class PictureWriter:
    """Square pictures to an mp4 without sound. One thread: the same clip is the same file on every machine.

    Args:
        target: file or path to write to; side: of the pictures in pixels; fps: frames a second.
    """

    def __init__(self, target: str | Path | IO[bytes], side: int, fps: int) -> None:
        import av

        self._container = av.open(str(target) if isinstance(target, Path) else target, "w", format="mp4")
        self._stream: Any = self._container.add_stream("libx264", rate=fps)
        self._stream.width = self._stream.height = side
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": _QUALITY, "preset": "veryfast", "threads": "1", **EVERY_RUN_ALIKE}
        self._count = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Add a picture ``[s, s, 3]``."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self._count
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def write_flac(target: str | Path | IO[bytes], audio: NDArray[np.int16]) -> None:
    """Write sound ``[s]`` at 16 kHz without loss."""
    import av

    with av.open(str(target) if isinstance(target, Path) else target, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=MODEL_SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        frame.sample_rate = MODEL_SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of named contents; it appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    with tarfile.open(part, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    replace_finished(part, path)


def told_in(path: Path) -> dict[str, bytes]:
    """The clips' records (``KEY.json``) in a tar, as they are written there.

    Raises:
        MediaError: if it cannot be read.
    """
    try:
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(".json")]
            return {member.name: cast(IO[bytes], tar.extractfile(member)).read() for member in members}
    except (OSError, tarfile.TarError) as error:
        raise MediaError(f"{path} cannot be read as a tar of clips ({error}); make it again.") from error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a parquet table with a row a clip; what a clip lacks is null."""
    import pyarrow
    from pyarrow import parquet

    names = sorted({name for row in rows for name in row})
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
    part = part_path(path)
    parquet.write_table(pyarrow.table(columns), part)
    os.replace(part, path)


def index_tars(folder: Path) -> int:
    """Write ``index.parquet`` of all tars of a set's splits; returns the number of clips.

    Raises:
        MediaError: if a tar cannot be read.
    """
    tars = sorted(path for split in ("train", "val", "test") for path in (folder / split).glob("*.tar"))
    rows = [
        {**json.loads(text), "shard": path.relative_to(folder).as_posix()}
        for path in tars
        for text in told_in(path).values()
    ]
    write_table(folder / INDEX, rows)
    return len(rows)


class TarWriter:
    """Collects rendered clips and writes them as one tar; used as :class:`~.shards.ShardWriter` is.

    Pictures lose a little by their coding, and the codec's sets of pictures (``pairs``) are left out.

    Args:
        path: the file to make; it appears when :meth:`close` succeeds; an exception in a `with` block leaves none.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._members: list[tuple[str, bytes]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, tensors: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Add a clip: its arrays by name (``frames``, ``landmarks``, ...) and what is known of it."""
        key = f"{self.path.stem}-{self._count:04d}".replace(".", "_")
        frames, fps = np.asarray(tensors["frames"]), int(info["fps"])
        count, side = frames.shape[:2]
        video, sound, labels = io.BytesIO(), io.BytesIO(), io.BytesIO()
        with PictureWriter(video, side, fps) as writer:
            for frame in frames:
                writer.add(frame)
        write_flac(sound, np.asarray(tensors["audio"]))
        whole = np.tile(np.array([side / 2, side / 2, side], np.float32), (count, 1))
        known = {name: np.asarray(tensors[name]) for name in LABELS if name in tensors}
        np.savez_compressed(labels, squares=whole, **known)  # pyright: ignore[reportArgumentType] its own option may share the name
        told = {**info, "key": key, "frames": count, "seconds": count / fps}
        text = json.dumps(told, ensure_ascii=False, sort_keys=True).encode()
        pieces = {"mp4": video.getvalue(), "flac": sound.getvalue(), "npz": labels.getvalue(), "json": text}
        self._members += [(f"{key}.{kind}", data) for kind, data in pieces.items()]
        self._count += 1

    def close(self) -> None:
        """Write the file, replacing an older one at once."""
        write_tar(self.path, self._members)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
