"""One channel of sound on the disk: hours of it take no memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MediaError, reason

_IN_MEMORY = 16 * 2**20
"""Bytes up to which no file is made: four minutes at 16 kHz."""
_BYTES = 4


class StoredSound:
    """Samples ``[t]`` in float32, appended block by block and read in pieces, as from a tensor.

    They lie in a file without a name, which is gone with this object. A short sound stays in memory.

    Args:
        folder: on whose drive there is room; the system's own for temporary files by default.

    Example:
        >>> sound = StoredSound()
        >>> sound.append(torch.arange(5.0))
        >>> len(sound), sound[1:3].tolist(), sound[3:].tolist()
        (5, [1.0, 2.0], [3.0, 4.0])
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=place)  # noqa: SIM115 - lives as long
        self._length = 0

    def append(self, samples: Tensor) -> None:
        """Add samples ``[t]`` at the end.

        Raises:
            MediaError: if there is no room for them.
        """
        try:
            self._file.seek(_BYTES * self._length)
            self._file.write(samples.detach().float().cpu().contiguous().numpy().tobytes())
        except OSError as error:
            raise MediaError(
                f"The sound cannot be kept on the disk while the video is made ({reason(error)}). Free some space."
            ) from error
        self._length += len(samples)

    def cut(self, length: int) -> None:
        """Make it ``length`` samples long: cut it, or add silence."""
        if length > self._length:
            self.append(torch.zeros(length - self._length))
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> Tensor:
        """The samples of a slice without a step."""
        first, last, _ = place.indices(self._length)
        if last <= first:
            return torch.empty(0)
        self._file.seek(_BYTES * first)
        return torch.frombuffer(bytearray(self._file.read(_BYTES * (last - first))), dtype=torch.float32)
