"""Clips of shards that were not trained on, each with the reference frame from which it is made again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..data.shards import ClipDataset
from ..errors import MCDMError
from ..face.landmarks import BLINK_VALUES, VALUE_NAMES
from ..media.pixels import to_unit

OPEN_MOUTH_SHARE = 0.35
"""Share of references with an open mouth."""


@dataclass(frozen=True)
class HeldClip:
    """A clip: ``stored [t, H, W, 3]`` uint8, landmarks ``[t, 68, 2]``, and the number of its reference frame."""

    stored: Tensor
    landmarks: Tensor
    reference: int

    def pictures(self, frames: slice | list[int]) -> Tensor:
        """Pictures ``[n, 3, H, W]`` in [-1, 1] of some frames."""
        return to_unit(rearrange(self.stored[frames], "n h w c -> n c h w"))


def held_clips(folder: Path, minimum: int, limit: int | None = None, seed: int = 0) -> list[HeldClip]:
    """The clips of a folder of shards.

    Args:
        minimum: clips with fewer frames are left out; limit: so many clips, drawn at random; seed: of all draws.

    Raises:
        MCDMError: if there is none.
    """
    clips = ClipDataset(folder, required=False)
    found = [index for index in range(len(clips)) if clips.num_frames(index, "landmarks") >= minimum]
    if not found:
        raise MCDMError(
            f"No clip in {folder} is long enough: expected shards (*.safetensors) with clips of at least {minimum} "
            "frames; render synthetic clips or prepare real ones first."
        )
    if limit is not None and len(found) > limit:
        chosen = np.random.default_rng(seed).choice(len(found), limit, replace=False)
        found = [found[i] for i in sorted(chosen)]
    held = []
    for index in found:
        pose = clips.read(index, "pose") if "pose" in clips.names(index) else None
        path, number = clips.place(index)
        random = np.random.default_rng([seed, zlib.crc32(f"{path.name}:{number}".encode())])
        values = clips.read(index, "values")
        reference = draw_reference(values, random, pose=pose, open_mouth=random.random() < OPEN_MOUTH_SHARE)
        held.append(HeldClip(clips.read(index, "frames"), clips.read(index, "landmarks").float(), reference))
    return held


def draw_reference(
    values: Tensor,
    random: np.random.Generator,
    candidates: int = 6,
    pose: Tensor | None = None,
    open_mouth: bool = False,
) -> int:
    """A reference frame: of some drawn at random the one most like a portrait, eyes open, mouth at rest, to the front.

    Args:
        values: facial values ``[t, 16]``; pose: head pose ``[t, 6]``, yaw and pitch first, in radians.
        open_mouth: prefer an open mouth instead, as smiling portraits have.
    """
    drawn = torch.from_numpy(random.integers(0, len(values), candidates))
    blinks = values[drawn][:, BLINK_VALUES].sum(1)
    opening = values[drawn][:, VALUE_NAMES.index("lip_opening")]
    restless = blinks + (-0.8 if open_mouth else 0.5) * opening
    if pose is not None:
        restless = restless + pose[drawn][:, :2].abs().sum(1)
    return int(drawn[int(restless.argmin())])
