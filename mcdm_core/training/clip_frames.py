"""Frames of training clips in memory, laid out flat, with the reference frames they are driven from.

All clips' frames are one tensor and a frame is a row of it. So a batch is drawn by a few index operations, on the
device where the tensor lies. With ``mirrored`` every clip is there twice. Rows beyond the stored ones are the same
frames seen in a mirror and in other colours (C). They are more people than were filmed, at no memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.shards import ClipDataset
from ..errors import MCDMError
from ..face.landmarks import BLINK_VALUES, VALUE_NAMES, mirror_landmarks
from ..media.pixels import to_unit

OPEN_MOUTH_SHARE = 0.35
"""Share of references with an open mouth."""


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
        open_mouth: prefer an open mouth instead, as smiling portraits have: the network learns to put teeth right.
    """
    drawn = random.integers(0, len(values), candidates)
    blinks = values[drawn][:, BLINK_VALUES].sum(1)
    opening = values[drawn][:, VALUE_NAMES.index("lip_opening")]
    restless = blinks + (-0.8 if open_mouth else 0.5) * opening
    if pose is not None:
        restless = restless + pose[drawn][:, :2].abs().sum(1)
    return int(drawn[int(restless.argmin())])


class ClipFrames:
    """Clips of shards, in memory.

    Attributes:
        stored: pictures ``[n, H, W, 3]`` uint8; landmarks: ``[rows, 68, 2]``, both on ``device``.
        first, length, group: of every clip its first row, its number of frames, the folder it came from ``[c]``.
        references: rows of the clips' reference frames ``[c, r]``.

    Args:
        folders: of shards; minimum: clips with fewer frames are left out; limit: so many clips, drawn at random.
        references: how many reference frames of a clip to draw from; seed: of those draws.
        mirrored: see above.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        minimum: int,
        *,
        seed: int = 0,
        limit: int | None = None,
        references: int = 1,
        mirrored: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        groups = [ClipDataset(folder, required=False) for folder in folders]
        found = [
            (group, index)
            for group, clips in enumerate(groups)
            for index in range(len(clips))
            if clips.num_frames(index, "landmarks") >= minimum
        ]
        if not found:
            raise MCDMError(
                f"No clip is long enough to train the denoiser on: expected shards (*.safetensors) with clips of at "
                f"least {minimum} frames; render synthetic clips or prepare real ones first."
            )
        if limit is not None and len(found) > limit:
            chosen = np.random.default_rng(seed).choice(len(found), limit, replace=False)
            found = [found[i] for i in sorted(chosen)]
        pictures: list[Tensor] = []
        landmarks: list[Tensor] = []
        drawn: list[list[int]] = []
        for group, index in found:
            clips = groups[group]
            pose = clips.read(index, "pose") if "pose" in clips.names(index) else None
            landmarks.append(clips.read(index, "landmarks").float())
            pictures.append(clips.read(index, "frames").to(device))
            path, number = clips.place(index)
            own_seed = [seed, zlib.crc32(f"{path.name}:{number}".encode())]
            drawn.append(_references(clips.read(index, "values"), pose, references, own_seed))
        self.length = np.array([len(points) for points in landmarks])
        self.first = np.concatenate([[0], np.cumsum(self.length)[:-1]])
        self.group = np.array([group for group, _ in found])
        self.references = self.first[:, None] + np.array(drawn)
        self.stored = torch.cat(pictures)
        self.landmarks = torch.cat(landmarks).to(device)
        self.device = self.stored.device
        if mirrored:
            self._add_mirrored(seed)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.length)

    @property
    def rows(self) -> int:
        """Number of rows, the mirrored ones included."""
        return len(self.landmarks)

    def _add_mirrored(self, seed: int) -> None:
        shift, clips = len(self.stored), len(self.length)
        owner = np.repeat(np.arange(clips), self.length)
        tints = np.random.default_rng([seed, 1]).normal(0.0, (0.12, 0.08), (clips, 3, 2)).transpose(0, 2, 1)
        # Gain and offset of the colours of every stored frame's mirror image, one draw a clip.
        self.tints = torch.from_numpy(tints.astype(np.float32)[owner]).to(self.device)
        self.landmarks = torch.cat([self.landmarks, mirror_landmarks(self.landmarks)])
        self.first = np.concatenate([self.first, self.first + shift])
        self.length, self.group = np.tile(self.length, 2), np.tile(self.group, 2)
        self.references = np.concatenate([self.references, self.references + shift])

    def pictures(self, rows: NDArray[np.int64]) -> Tensor:
        """Pictures ``[n, 3, H, W]`` in [-1, 1], channels last, of rows ``[n]``."""
        stored = len(self.stored)
        index = torch.from_numpy(rows % stored).to(self.device)
        pictures = to_unit(self.stored[index].permute(0, 3, 1, 2))
        mirrored = rows >= stored
        if not mirrored.any():
            return pictures
        flags = torch.from_numpy(mirrored).to(self.device)[:, None, None, None]
        gain, offset = self.tints[index][..., None, None].unbind(1)
        other = (pictures.flip(3) * (1 + gain) + offset).clamp(-1, 1)
        return torch.where(flags, other, pictures).contiguous(memory_format=torch.channels_last)

    def points(self, rows: NDArray[np.int64]) -> Tensor:
        """Landmarks ``[*rows, 68, 2]``."""
        return self.landmarks[torch.from_numpy(rows).to(self.device)]


def _references(values: Tensor, pose: Tensor | None, number: int, seed: Sequence[int]) -> list[int]:
    """Reference frames of a clip, some of them with an open mouth."""
    random = np.random.default_rng(list(seed))
    return [
        draw_reference(values, random, pose=pose, open_mouth=random.random() < OPEN_MOUTH_SHARE) for _ in range(number)
    ]
