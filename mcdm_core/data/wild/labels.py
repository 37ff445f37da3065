"""Curated clips as the labelled shards that the training stages read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..real.labelling import BY_FACE_NETWORK, write_parts
from ..shards import INFO_FIELDS, SYNTHETIC, ShardWriter
from ..tar_clips import TarClips
from ..tar_shards import LABELS

_CLIPS_PER_SHARD = 4
"""Clips last up to 30 s, and a shard is put together in memory."""


def write_curated_shards(folder: Path, output: Path, split: str, size: int = 128, resume: bool = True) -> int:
    """Write a split of a curated set as shards ``<split>-00000.safetensors``, ...; returns the number of clips there.

    Labels, sound and what is known of a clip are the curation's, or the renderer's.

    Args:
        folder: output of ``curate``, or of ``render-data --format tar``.
        size: side of the stored crops; resume: keep the shards that are already there.

    Raises:
        MediaError: if a tar is damaged.
    """
    tars = sorted((folder / split).glob("*.tar"))
    if not tars:
        return 0
    clips = TarClips(tars)

    def write(target: Path, part: Sequence[int], first: int) -> int:
        with ShardWriter(target) as writer:
            for index in part:
                told, labels = clips.told(index), clips.labels(index)
                tensors: dict[str, Any] = {name: labels[name] for name in LABELS if name in labels}
                tensors["frames"] = clips.pictures(index, range(told["frames"]), size)
                info: dict[str, Any] = {name: told.get(name, "") for name in INFO_FIELDS}
                if told.get("source") != SYNTHETIC:  # a rendered clip keeps what it is, and its true labels
                    told_by = {"source": "real video", "sentence": told["key"], "labels": BY_FACE_NETWORK}
                    info |= {**told_by, "seed": 0, "index": index}
                info["split"] = split
                writer.add({**tensors, "audio": clips.sound(index)}, info)
        return len(part)

    return write_parts(range(len(clips)), output, split, _CLIPS_PER_SHARD, write, resume, "clips")
