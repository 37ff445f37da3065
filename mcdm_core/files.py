"""Our own files. A stop in the middle of writing loses nothing: neither what was there nor half of what is new.

What is being written has another name, ``NAME.part.SUFFIX`` beside its place, and takes the place when it is complete
and on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import MCDMError, MediaError, OutOfMemoryError, is_out_of_memory, reason, unwritable

LONGEST_NAME = 255
"""Bytes of a file's name, on every usual file system."""
_MAKE_ROOM = "Close other programs and do the same again."
_PROBE_BYTES = 1 << 20
_WRITER_BYTES = 2 << 20
"""Memory that safetensors takes for writing (one MiB) and some more; it ends the process where there is none."""


def part_path(path: str | Path) -> Path:
    """The name under which a file is written before it is complete: ``a.mp4`` as ``a.part.mp4``.

    >>> part_path("films/a.mp4").name
    'a.part.mp4'
    """
    path = Path(path)
    name = f"{path.stem}.part{path.suffix}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part{path.suffix}"
    return path.with_name(name)


def replace_finished(part: Path, path: Path) -> None:
    """Move a complete file into its place, once it is on the disk; an older one there is replaced at once.

    Raises:
        OSError: if it cannot be moved.
    """
    _sync(part)
    os.replace(part, path)
    if os.name == "posix":  # Windows opens no folders
        with contextlib.suppress(OSError):
            _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_destination(path: str | Path, suffixes: Iterable[str], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse a place where nothing can be written before any work is done for it. Makes its folder.

    Args:
        path: of the file to write.
        suffixes: that it may have; the first is proposed.
        inputs: files that must stay as they are.

    Raises:
        MediaError: if the name is unfit, the file is an input, or the folder is read-only or full.
    """
    path, suffixes = Path(path), list(suffixes)
    try:
        if path.suffix.lower() not in suffixes or path.is_dir():
            raise MediaError(f"{path} is no name for a {suffixes[0][1:]} file. Give NAME{suffixes[0]}.")
        for other in inputs:
            if other is not None and _same_file(path, Path(other)):
                raise MediaError(f"{path} is an input as well and would be overwritten. Choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".mcdm_") as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except (OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        shown = path if len(str(path)) < 300 else f"{str(path)[:60]}..."
        raise unwritable(shown, error) from error


def _same_file(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def read_tensors(path: str | Path, *, error: type[MCDMError], what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; nothing in it is run.

    Args:
        error: class of the errors raised; what: the file should be, for messages.

    Raises:
        MCDMError: of the class given, if the file is missing or damaged, or holds a value that is not finite.
        OutOfMemoryError: if memory does not suffice for it.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise error(f"There is no {what} at {path}. Check the path.")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as failure:  # the reader raises its own untyped errors for damaged files
        if is_out_of_memory(failure):
            raise OutOfMemoryError(f"There is too little free memory to read {path.name}. {_MAKE_ROOM}") from failure
        raise error(f"{path.name} cannot be read as a {what} ({reason(failure)}). Get or save it again.") from failure
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
            raise error(f"{path.name} holds values in {name!r} that are not finite. Get or save it again.")
    return tensors, metadata


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are: the least and the largest say it, several times faster than a look at each."""
    return all(math.isfinite(float(extreme)) for extreme in tensor.aminmax())


def read_json(text: str, *, error: type[MCDMError], what: str) -> dict[str, Any]:
    """A JSON object out of a file's metadata.

    Raises:
        MCDMError: of the class given, if it is no JSON object, or a nest too deep to read.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise error(f"{what} cannot be read ({reason(failure)}). Get or save the file again.") from failure
    if not isinstance(values, dict):
        raise error(f"{what} holds {type(values).__name__}, expected names with values. Get or save the file again.")
    return values


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and strings to a safetensors file, whole or not at all.

    Args:
        path: the file; its folder is made, an older one replaced at once.
        tensors: by name; they may lie on any device but must not share memory.
        metadata: with one entry at most, equal contents give equal bytes.

    Raises:
        MediaError: if the file cannot be written; OutOfMemoryError: if memory does not suffice for it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    part = part_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        bytearray(_WRITER_BYTES)
        save_file(ready, str(part), metadata=dict(metadata or {}))
        replace_finished(part, path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
