"""Real material to shards: the loop that videos and stills share; can be stopped and started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...errors import FaceNotFoundError, MediaError
from ..shards import ClipDataset, ShardWriter

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
BY_FACE_NETWORK = "face network"
"""Noted as ``labels`` in the metadata of clips whose landmarks no teacher has read."""
LabelFunction = Callable[[Path, int], tuple[dict[str, Any], dict[str, Any]]]
"""A file and the clip's number to the tensors and the metadata of a shard's clip."""


def write_labelled(
    label: LabelFunction,
    paths: Sequence[Path],
    output: Path,
    split: str,
    clips_per_shard: int = 20,
    resume: bool = True,
) -> int:
    """Label files and write them as shards ``<split>-00000.safetensors``, ...; returns the number of clips there.

    Args:
        label: raises FaceNotFoundError or MediaError for a file that cannot be used; it is left out with a warning.
        resume: keep the shards that are already there (of the same list of files), else write them again.

    Raises:
        MediaError: if there are files and none of them could be used.
    """

    def write(target: Path, part: Sequence[Path], first: int) -> int:
        writer = ShardWriter(target)
        for path in part:
            try:
                tensors, info = label(path, first + len(writer))
            except (FaceNotFoundError, MediaError) as error:
                logger.warning("%s left out: %s", path.name, error)
                continue
            writer.add(tensors, info)
        if len(writer):
            writer.close()
        return len(writer)

    written = write_parts(paths, output, split, clips_per_shard, write, resume, "files")
    if paths and not written:
        raise MediaError(f"None of the {len(paths)} files of {paths[0].parent} could be labelled; see the warnings.")
    return written


def write_parts(
    items: Sequence[Item],
    output: Path,
    name: str,
    per_shard: int,
    write: Callable[[Path, Sequence[Item], int], int],
    resume: bool,
    noun: str,
) -> int:
    """Write shards ``<name>-00000.safetensors``, ... of ``per_shard`` items each; returns the number of clips there.

    Args:
        write: called with a shard's path, its items, and how many clips there are before them. It writes the shard, or
            none if no item can be used, and returns its number of clips.
        resume: keep the shards that are already there; noun: what the items are called in the log.
    """
    written, started, done = 0, time.monotonic(), 0
    for start in range(0, len(items), per_shard):
        target = Path(output) / f"{name}-{start // per_shard:05d}.safetensors"
        if resume and target.is_file():
            written += len(ClipDataset(target))
            logger.info("%s is there already", target.name)
            continue
        part = items[start : start + per_shard]
        written += write(target, part, written)
        done += len(part)
        rate, seen = done / (time.monotonic() - started), start + len(part)
        logger.info("%s: %d of %d %s, %d clips, %.2f %s/s", target.name, seen, len(items), noun, written, rate, noun)
    return written
