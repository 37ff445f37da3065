"""Errors that tell the user which input was wrong, what was expected and what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def reason(error: Exception) -> str:
    """What went wrong, without the error's number and the path the message names anyway."""
    return getattr(error, "strerror", None) or str(error)


_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "bad_alloc",
    "bad allocation",
    "failed to map",
    "could not create a primitive",
    "could not create a memory",
    "unable to mmap",
    "can't start new thread",
)
"""How Python, torch, CUDA and oneDNN (primitives) say so."""
_NO_ROOM = (errno.ENOMEM, errno.EAGAIN)
"""The system's numbers; the second is an encoder's that has no memory for its threads."""
_EXTERNAL = 0x20545845
"""FFmpeg's number (EXT) for an encoder that cannot begin. Ours are given nothing that they refuse: memory is short."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch, FFmpeg or the system says that memory ran out, on whatever device.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, MemoryError | OutOfMemoryError) or getattr(error, "errno", None) in _NO_ROOM:
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error).lower() for words in _NO_MEMORY)


def unwritable(path: object, error: Exception) -> MCDMError:
    """What to raise where ``path`` cannot be written, be it for want of memory or of a place.

    >>> unwritable("a.mp4", OSError(28, "No space left on device"))
    MediaError('a.mp4 cannot be written (No space left on device). Check the folder and free space.')
    """
    if is_out_of_memory(error) or getattr(error, "errno", None) == _EXTERNAL:
        return OutOfMemoryError(
            f"There is too little free memory to write {path} ({reason(error)}). Close other programs and do the same "
            "again."
        )
    return MediaError(f"{path} cannot be written ({reason(error)}). Check the folder and free space.")


class MCDMError(ValueError):
    """Base of every error this library raises for an input it cannot use."""


class FaceNotFoundError(MCDMError):
    """No face was found in the portrait; a manual box can be given instead."""


class FaceTooSmallError(MCDMError):
    """The face covers too few pixels to speak legibly."""


class AudioError(MCDMError):
    """The audio is missing, empty, silent throughout, or cannot be decoded."""


class MediaError(MCDMError):
    """A picture or video cannot be read or written."""


class FrameRateError(MCDMError):
    """A frame rate is not usable or two inputs disagree about it."""


class WeightsError(MCDMError):
    """A weight file is missing, damaged, or does not fit the configuration."""


class PackageError(MCDMError):
    """A package or program that this needs is not installed, or does not work; says what to install."""


class MemoryMismatchError(MCDMError):
    """A saved motion memory belongs to another model or configuration."""


class OutOfMemoryError(MCDMError):
    """The device has too little memory for the request; says what to lower."""


@contextmanager
def failures_told(advice: str, safe: Callable[[], str] = lambda: "") -> Iterator[None]:
    """A shortage of memory, of whatever library, ends in one line: what is safe, and what would help.

    Args:
        advice: what would help. safe: says what is safe; it is added to our other errors too.

    Raises:
        OutOfMemoryError: for a shortage; other errors of ours as they are, with what is safe.

    >>> with failures_told("Close a program.", lambda: "3 clips are safe."):
    ...     raise MemoryError("no room")
    Traceback (most recent call last):
    mcdm_core.errors.OutOfMemoryError: There is too little free memory (no room). Close a program. 3 clips are safe.
    """
    try:
        yield
    except (MCDMError, MemoryError, RuntimeError, ImportError, OSError) as error:
        ours, kept = isinstance(error, MCDMError), safe()
        if not (kept if ours else is_out_of_memory(error)):
            raise
        said = str(error) if ours else f"There is too little free memory ({first_line(error)}). {advice}"
        kind = type(error) if ours else OutOfMemoryError
        raise kind(f"{said} {kept}".rstrip()) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for one of ours that is made of it.

    >>> first_line(RuntimeError("the first\\nand the second"))
    'the first'
    """
    return next(iter(str(error).splitlines()), "") or "allocation failed"
