"""Training frames in memory, one row each, with the motion tokens that the frozen codec reads off them.

A clip is a run of rows. A still is some: the portrait itself, and with its lips warped shut, its eyes painted shut,
or other lips and lids (:mod:`..photographs`). With lips shut a reference may lack the teeth that an archived frame
shows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors import safe_open
from torch import Tensor

from ...data.tar_clips import TarClips
from ...errors import MCDMError
from ...face.landmarks import lid_opening, lip_opening
from ...media.pixels import to_bytes, to_unit
from ...models.motion_codec import MotionCodec
from ..photographs.moved_portraits import FaceChange, close_lips, move_portraits
from ..photographs.shut_lids import shut_lids

logger = logging.getLogger(__name__)
_CODEC_SIZE = 128
_BATCH = 64
_SUFFIXES = (".safetensors", ".tar")
STILL_AS_IS, STILL_SHUT, STILL_BLINK, STILL_MOVED = 0, 1, 2, 3
"""Rows of a still: the photograph, with its lips shut, with its eyes (half) shut, the first of :data:`MOVED` others."""
MOVED = 3
SHUT_FULLY = 0.4
"""How many of the stills' blinks are complete; the others stop half-way, as most frames of a blink do."""


@dataclass(frozen=True)
class ClipRows:
    """Rows ``first`` to ``first + length - 1``; ``group`` numbers the folder; of a still's rows see
    :data:`STILL_AS_IS`."""

    first: int
    length: int
    group: int
    still: bool


class FrameRows:
    """Frames of all clips of some folders of shards, or of tars as ``curate`` and ``render-data --format tar`` write.

    Attributes:
        pictures: ``[n, s, s, 3]`` uint8; landmarks: ``[n, 68, 2]``; tokens: ``[n, m, d]``.
        lips, lids: openings ``[n]`` (``face/landmarks.py``).
        clips: of all folders.

    Args:
        folders: of shards or tars; codec: frozen; size: side of the pictures.
        minimum: clips with fewer frames are left out, stills excepted; limit: clips of each folder.
        device: where the rows, the codec and what is drawn of them lie.

    Raises:
        MCDMError: if there is no clip.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        codec: MotionCodec,
        size: int,
        *,
        minimum: int = 32,
        limit: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.clips: list[ClipRows] = []
        pictures: list[Tensor] = []
        landmarks: list[Tensor] = []
        count = 0
        for group, folder in enumerate(folders):
            found = 0
            for path in sorted(file for file in Path(folder).glob("*") if file.suffix in _SUFFIXES):
                read = _read_tar if path.suffix == ".tar" else _read_clips
                for frames, points, still in read(path, minimum, size):
                    if limit is not None and found >= limit:
                        break
                    self.clips.append(ClipRows(count, len(frames), group, still))
                    pictures.append(frames)
                    landmarks.append(points)
                    count, found = count + len(frames), found + 1
        if not self.clips:
            raise MCDMError(
                f"No clip of at least {minimum} frames lies in {', '.join(map(str, folders))}: render synthetic clips "
                "or label real ones first."
            )
        self.pictures, self.landmarks = torch.cat(pictures).to(device), torch.cat(landmarks).to(device)
        self.device = self.pictures.device
        self.tokens = _read_tokens(codec, self.pictures, self.landmarks)
        self.lips, self.lids = lip_opening(self.landmarks), lid_opening(self.landmarks)
        logger.info("%d clips, %d frames in memory", len(self.clips), count)

    def picture(self, rows: Tensor) -> Tensor:
        """Pictures ``[*rows, 3, s, s]`` in [-1, 1]."""
        return to_unit(rearrange(self.pictures[rows], "... h w c -> ... c h w"))


def _read_clips(path: Path, minimum: int, size: int) -> list[tuple[Tensor, Tensor, bool]]:
    """Frames, landmarks and "is a still" of a shard's clips."""
    clips = []
    with safe_open(str(path), framework="pt") as file:
        infos = json.loads((file.metadata() or {}).get("clips", "[]"))
        for index, info in enumerate(infos):
            frames, points = file.get_tensor(f"{index}/frames"), file.get_tensor(f"{index}/landmarks").float()
            still = info.get("source") == "still"
            if len(points) < minimum and not still:
                continue
            frames = _at_size(frames, size)
            if still:
                frames, points = _still_rows(frames[:1], points[:1], index)
            clips.append((frames, points, still))
    return clips


def _read_tar(path: Path, minimum: int, size: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """The same of a tar's clips, whose pictures are compressed: a thirtieth of a shard's size."""
    clips = TarClips([path], minimum)
    for index, length in enumerate(clips.frames.tolist()):
        frames = torch.from_numpy(clips.pictures(index, range(length), size))
        yield frames, torch.from_numpy(clips.labels(index)["landmarks"]).float(), False


def _still_rows(frame: Tensor, points: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of a photograph ``[1, h, w, 3]`` and its landmarks ``[1, 68, 2]``, see :data:`STILL_AS_IS`."""
    picture = to_unit(rearrange(frame, "n h w c -> n c h w"))
    shut, closed = close_lips(picture, points)
    change = FaceChange.draw(MOVED, torch.Generator().manual_seed(seed))
    moved, other = move_portraits(picture.expand(MOVED, -1, -1, -1), points.expand(MOVED, -1, -1), change)
    # A blink comes with lips of either kind.
    random = np.random.default_rng(seed)
    face, at = (shut, closed) if random.random() < 0.6 else (picture, points)
    gap = 0.0 if random.random() < SHUT_FULLY else random.uniform(0.12, 0.75)
    blink, lids = (x[None] for x in shut_lids(face[0], at[0], random, gap=gap))
    made = rearrange(to_bytes(torch.cat([shut, blink, moved])), "n c h w -> n h w c")
    return torch.cat([frame, made]), torch.cat([points, closed, lids, other])


def _at_size(frames: Tensor, size: int) -> Tensor:
    """Frames ``[t, h, w, 3]`` uint8 at ``size x size``."""
    if frames.shape[1] == size:
        return frames
    planes = rearrange(frames, "t h w c -> t c h w").float()
    small = F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return rearrange(small.round().clamp(0, 255).to(torch.uint8), "t c h w -> t h w c")


@torch.no_grad()
def _read_tokens(codec: MotionCodec, pictures: Tensor, landmarks: Tensor) -> Tensor:
    """The codec's tokens of rows, ``[n, m, d]``."""
    tokens = []
    for frames, points in zip(pictures.split(_BATCH), landmarks.split(_BATCH), strict=True):
        small = to_unit(rearrange(_at_size(frames, _CODEC_SIZE), "t h w c -> t c h w"))
        tokens.append(codec.encode(small[:, None], points[:, None]).cat()[:, 0])
    return torch.cat(tokens)
