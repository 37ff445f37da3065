"""A lock that one process holds at a time and that ends with it, also when it is killed."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import BinaryIO

from .errors import MediaError

logger = logging.getLogger(__name__)

_HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class FileLock:
    """Holds a file's lock from its making to :meth:`release`.

    Args:
        path: of the file, made if missing; it holds nothing.
        refusal: what is said if another process has the lock.

    Raises:
        MediaError: if it has; OSError: if the file cannot be made.
    """

    def __init__(self, path: Path, refusal: str) -> None:
        self._file: BinaryIO | None = open(path, "ab")  # noqa: SIM115 - it lives as long as the lock
        try:
            _take(self._file)
        except OSError as error:
            if error.errno in _HELD_ELSEWHERE:
                self.release()
                raise MediaError(refusal) from error
            logger.debug("%s cannot be locked here (%s).", path, error)  # some network file systems know no locks

    def release(self) -> None:
        """Let the next one in; twice does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _take(file: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
