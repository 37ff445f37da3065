"""The set as it is handed on: tar shards that WebDataset reads, and a parquet index for pandas and ``datasets``."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from ...files import part_path, replace_finished
from .settings import CurateSettings
from .video import PIECES, Record

INDEX, DROPPED = "index.parquet", "dropped.parquet"
_PRIVATE = ("sound_signature", "picture_signature", "fault", "numbers")


def shard_names(records: Sequence[Record], settings: CurateSettings) -> dict[str, list[Record]]:
    """Tar file (below the output, ``train/train-00000.tar``) to its clips; sets ``split`` and ``shard`` of each."""
    shards: dict[str, list[Record]] = {}
    counts: dict[str, int] = {}
    for record in sorted((r for r in records if not r["fault"]), key=lambda r: r["key"]):
        split = record["split"]
        number = counts.get(split, 0)
        counts[split] = number + 1
        record["shard"] = f"{split}/{split}-{number // settings.clips_per_shard:05d}.tar"
        shards.setdefault(record["shard"], []).append(record)
    return shards


def write_shard(path: Path, records: Sequence[Record], work: Path) -> None:
    """Write a tar of clips: for each ``KEY.mp4`` (pictures), ``KEY.flac`` (16 kHz), ``KEY.npz`` (labels), ``KEY.json``.

    The same clips give the same bytes. A tar that is there with the same records is left alone: a record holds the
    digest of its clip's files.

    Args:
        work: where the videos' finished clips lie.
    """
    members: list[tuple[str, bytes | Path]] = []
    for record in records:
        folder = work / record["key"].rsplit("-", 1)[0]
        members += [(f"{record['key']}.{kind}", folder / f"{record['key']}.{kind}") for kind in PIECES]
        text = json.dumps(public(record), ensure_ascii=False, sort_keys=True)
        members.append((f"{record['key']}.json", text.encode()))
    told = {name: data for name, data in members if isinstance(data, bytes)}
    if path.is_file() and _records(path) == told:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    with tarfile.open(part, "w") as tar:
        for name, data in members:
            content = data if isinstance(data, bytes) else data.read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    replace_finished(part, path)


def remove_others(output: Path, names: Sequence[str]) -> None:
    """Delete shards of an earlier, larger set that no clip is in any more."""
    for split in ("train", "val", "test"):
        for path in (output / split).glob(f"{split}-*.tar"):
            if f"{split}/{path.name}" not in names:
                path.unlink()


def write_index(path: Path, records: Sequence[Record]) -> None:
    """Write a parquet table with a row a clip; numbers are columns, what was not measured is null."""
    import pyarrow
    from pyarrow import parquet

    rows = [{**public(record), "fault": record["fault"]} for record in records]
    names = sorted({name for row in rows for name in row})
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
    part = part_path(path)
    parquet.write_table(pyarrow.table(columns), part)
    os.replace(part, path)


def public(record: Record) -> dict[str, Any]:
    """What a reader of the set is told of a clip, flat."""
    own = {key: value for key, value in record.items() if key not in _PRIVATE}
    return {**own, **{f"measured_{name}": value for name, value in record["numbers"].items()}}


def _records(path: Path) -> dict[str, bytes] | None:
    """The records in a tar as they are written there; None if it is damaged."""
    try:
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.endswith(".json")]
            return {member.name: cast(IO[bytes], tar.extractfile(member)).read() for member in members}
    except (OSError, tarfile.TarError):
        return None
