"""Curated clips as tar shards and tables (:mod:`..tar_shards`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import MediaError
from ..tar_shards import told_in, write_table, write_tar
from .settings import CurateSettings
from .video import PIECES, Record

DROPPED = "dropped.parquet"
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
    told = {f"{r['key']}.json": json.dumps(public(r), ensure_ascii=False, sort_keys=True).encode() for r in records}
    if path.is_file() and _told(path) == told:
        return

    def members() -> Iterator[tuple[str, bytes]]:
        for key in (record["key"] for record in records):
            folder = work / key.rsplit("-", 1)[0]
            yield from ((f"{key}.{kind}", (folder / f"{key}.{kind}").read_bytes()) for kind in PIECES)
            yield f"{key}.json", told[f"{key}.json"]

    write_tar(path, members())


def remove_others(output: Path, names: Sequence[str]) -> None:
    """Delete shards of an earlier, larger set that no clip is in any more."""
    for split in ("train", "val", "test"):
        for path in (output / split).glob(f"{split}-*.tar"):
            if f"{split}/{path.name}" not in names:
                path.unlink()


def write_index(path: Path, records: Sequence[Record]) -> None:
    """Write a parquet table with a row a clip; numbers are columns, what was not measured is null."""
    write_table(path, [{**public(record), "fault": record["fault"]} for record in records])


def public(record: Record) -> dict[str, Any]:
    """What a reader of the set is told of a clip, flat."""
    own = {key: value for key, value in record.items() if key not in _PRIVATE}
    return {**own, **{f"measured_{name}": value for name, value in record["numbers"].items()}}


def _told(path: Path) -> dict[str, bytes] | None:
    """The records in a tar; None if it is damaged."""
    try:
        return told_in(path)
    except MediaError:
        return None
