"""Videos of plain grey frames, for tests of what reads or compares videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from mcdm_core.media.video_writer import VideoWriter


def grey_video(path: Path, levels: Iterable[float], width: int = 64, height: int = 48) -> Path:
    """A video of 25 frames a second, each of one of the levels in [0, 1]."""
    with VideoWriter(path, width, height, 25, crf=1) as writer:
        for level in levels:
            writer.write(torch.full((3, height, width), float(level)))
    return path
