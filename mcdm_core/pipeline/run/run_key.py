"""A run's name: a hash of everything that determines its result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from ...errors import MediaError

FORMAT = 3
"""Of a run's folder. Another format is another run."""


def run_key(*parts: Any) -> str:
    """Hash (16 hex digits) of tensors, numbers, strings, dataclasses and nests of them; of a path, the file's content.

    Only inputs belong into it: what a network computed differs in the last bit with the number of threads.

    Raises:
        MediaError: if a file cannot be read.
    """
    digest = hashlib.sha256(f"mcdm run {FORMAT}".encode())
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:16]


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, torch.Tensor):
        array = part.detach().cpu().contiguous()
        digest.update(f"tensor {array.dtype} {list(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(part, Path):
        try:
            with open(part, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise MediaError(f"{part} cannot be read ({error.strerror}). Give a readable file.") from error
    elif isinstance(part, dict):
        for key in sorted(part, key=str):
            digest.update(str(key).encode())
            _feed(digest, part[key])
    elif isinstance(part, list | tuple):
        digest.update(f"list {len(part)}".encode())
        for entry in part:
            _feed(digest, entry)
    elif hasattr(part, "__dataclass_fields__"):
        for name in part.__dataclass_fields__:
            digest.update(name.encode())
            _feed(digest, getattr(part, name))
    else:
        digest.update(repr(part).encode())
