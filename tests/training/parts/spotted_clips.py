"""A clip of video for trainings that are to begin, not to learn much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mcdm_core.data.shards import INFO_FIELDS, ShardWriter


def write_spotted_clip(folder: Path) -> None:
    """A clip of soft spots of colour, over which lips open and close."""
    spots = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 200
    smooth = torch.nn.functional.interpolate(spots, size=192, mode="bilinear")[0].movedim(0, -1)
    frames = smooth.numpy()[None].repeat(40, 0)
    across = np.linspace(0.3, 0.7, 68, dtype=np.float32)
    landmarks = np.stack([across, 0.5 + 0.2 * np.sin(np.arange(68, dtype=np.float32))], -1)[None].repeat(40, 0)
    landmarks[:, 16:20, 1] += 0.05 * np.abs(np.sin(np.arange(40) / 3, dtype=np.float32))[:, None]
    clip = {
        "frames": frames.astype(np.uint8),
        "landmarks": landmarks,
        "pose": np.zeros((40, 6), np.float32),
        "values": np.zeros((40, 16), np.float32),
        "audio": np.zeros(40 * 640, np.int16),
    }
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        writer.add(clip, {**dict.fromkeys(INFO_FIELDS, ""), "source": "real video", "fps": 25, "seed": 0, "index": 0})
