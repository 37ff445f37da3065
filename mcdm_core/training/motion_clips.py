"""Clips of shards as plain arrays, for the stages that train on motion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open


def iterate_clips(folder: Path, fields: tuple[str, ...] | None = None) -> Iterator[dict[str, Any]]:
    """Clips of all shards in a folder, in the order of the files' names.

    Args:
        folder: holds ``*.safetensors`` shards (see ``docs/architecture.md``, "Data samples").
        fields: names to read (``("landmarks", "values")``); None reads all.

    Yields:
        A dictionary of numpy arrays by field name (``frames``, ``landmarks``, ...) and ``info``, the clip's metadata.
    """
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(str(path), framework="np") as shard:
            clips = json.loads((shard.metadata() or {}).get("clips", "[]"))
            names = list(shard.keys())
            present: dict[str, list[str]] = {}
            for name in names:
                index, _, field = name.partition("/")
                present.setdefault(index, []).append(field)
            for index, info in enumerate(clips):
                wanted = [f for f in present.get(str(index), []) if fields is None or f in fields]
                yield {"info": info, **{field: shard.get_tensor(f"{index}/{field}") for field in wanted}}
