"""Errors that tell the user which input was wrong, what was expected and what to do."""

from __future__ import annotations

import errno


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch, FFmpeg or the system says that memory ran out, on whatever device.

    >>> is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError) and any(words in str(error).lower() for words in _NO_MEMORY)


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
