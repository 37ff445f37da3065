"""Real material to shards: the loop that videos and stills share; can be stopped and started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import FaceNotFoundError, MediaError
from .shards import ClipDataset, ShardWriter

logger = logging.getLogger(__name__)

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
    written, started, labelled = 0, time.monotonic(), 0
    for start in range(0, len(paths), clips_per_shard):
        target = Path(output) / f"{split}-{start // clips_per_shard:05d}.safetensors"
        if resume and target.is_file():
            written += len(ClipDataset(target))
            logger.info("%s is there already", target.name)
            continue
        writer = ShardWriter(target)
        kept = 0
        for path in paths[start : start + clips_per_shard]:
            try:
                tensors, info = label(path, written + kept)
            except (FaceNotFoundError, MediaError) as error:
                logger.warning("%s left out: %s", path.name, error)
                continue
            writer.add(tensors, info)
            kept += 1
        labelled += len(paths[start : start + clips_per_shard])
        if kept:
            writer.close()
            written += kept
        done = min(start + clips_per_shard, len(paths))
        rate = labelled / (time.monotonic() - started)
        logger.info("%s: %d of %d files, %d clips, %.2f files/s", target.name, done, len(paths), written, rate)
    if paths and not written:
        raise MediaError(f"None of the {len(paths)} files of {paths[0].parent} could be labelled; see the warnings.")
    return written
