"""Writing of safetensors files so that a stop in the middle never leaves half a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .errors import MediaError, reason


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and strings to a safetensors file, under another name first, then renamed.

    Args:
        path: the file; its folder is made, an older one replaced at once.
        tensors: by name; they may lie on any device but must not share memory.

    Raises:
        MediaError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(ready, str(part), metadata=dict(metadata or {}))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise MediaError(f"{path} cannot be written ({reason(error)}). Check the folder and free space.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
