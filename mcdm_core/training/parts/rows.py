"""Training frames in memory, one row each, with the motion tokens that the frozen codec reads off them.

A clip is a run of rows. A still is two: the portrait as it is and with its lips warped shut, so that a reference may
lack the teeth that an archived frame shows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from ...errors import MCDMError
from ...face.landmarks import lid_opening, lip_opening
from ...face.reference_warp import tps_flow, warp
from ...media.pixels import to_bytes, to_unit
from ...models.motion_codec import MotionCodec

logger = logging.getLogger(__name__)
_CODEC_SIZE = 128
_BATCH = 64


@dataclass(frozen=True)
class ClipRows:
    """Rows ``first`` to ``first + length - 1``; ``group`` numbers the folder; a still has two rows."""

    first: int
    length: int
    group: int
    still: bool


class FrameRows:
    """Frames of all clips of some folders of shards.

    Attributes:
        pictures: ``[n, s, s, 3]`` uint8; landmarks: ``[n, 68, 2]``; tokens: ``[n, m, d]``.
        lips, lids: openings ``[n]`` (``face/landmarks.py``).
        clips: of all folders.

    Args:
        folders: of shards; codec: frozen; size: side of the pictures.
        minimum: clips with fewer frames are left out, stills excepted; limit: clips of each folder.
        device: where the rows, the codec and what is drawn of them lie.

    Raises:
        MCDMError: if there is no clip.
    """

    def __init__(
        self, folders: Sequence[Path], codec: MotionCodec, size: int, *, minimum: int = 32, limit: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.clips: list[ClipRows] = []
        pictures: list[Tensor] = []
        landmarks: list[Tensor] = []
        count = 0
        for group, folder in enumerate(folders):
            found = 0
            for path in sorted(Path(folder).glob("*.safetensors")):
                for frames, points, still in _read_clips(path, minimum, size):
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
        return to_unit(self.pictures[rows].movedim(-1, -3))


def close_lips(pictures: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Portraits with their lips warped shut: the same people without their teeth.

    Args:
        pictures: ``[n, 3, h, w]`` in [-1, 1]; landmarks: ``[n, 68, 2]``.

    Returns:
        Pictures and landmarks of the same shapes.
    """
    closed = landmarks.clone()
    gap = landmarks[:, 18] - landmarks[:, 14]
    seam = 0.55 * landmarks[:, [13, 14, 15]] + 0.45 * landmarks[:, [19, 18, 17]]
    closed[:, [13, 14, 15]] = seam
    closed[:, [19, 18, 17]] = seam
    for points, shares in (((1, 2, 3, 4, 5), _UPPER_SHARES), ((7, 8, 9, 10, 11), _LOWER_SHARES)):
        for point, share in zip(points, shares, strict=True):
            closed[:, point] += share * gap
    face = slice(0, 64)  # of all 68 points the flow would keep the lips apart
    return warp(pictures, tps_flow(closed[:, face], landmarks[:, face], size=96)), closed


_UPPER_SHARES = (0.08, 0.18, 0.2, 0.18, 0.08)
_LOWER_SHARES = (-0.25, -0.5, -0.55, -0.5, -0.25)
"""How much of the gap the outline of the upper lip comes down, and that of the lower lip up."""


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
                shut, closed = close_lips(to_unit(frames[:1].movedim(-1, 1)), points[:1])
                shut = to_bytes(shut).movedim(1, -1)
                frames, points = torch.cat([frames[:1], shut]), torch.cat([points[:1], closed])
            clips.append((frames, points, still))
    return clips


def _at_size(frames: Tensor, size: int) -> Tensor:
    """Frames ``[t, h, w, 3]`` uint8 at ``size x size``."""
    if frames.shape[1] == size:
        return frames
    small = F.interpolate(frames.movedim(-1, 1).float(), size=(size, size), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).movedim(1, -1)


@torch.no_grad()
def _read_tokens(codec: MotionCodec, pictures: Tensor, landmarks: Tensor) -> Tensor:
    """The codec's tokens of rows, ``[n, m, d]``."""
    tokens = []
    for frames, points in zip(pictures.split(_BATCH), landmarks.split(_BATCH), strict=True):
        small = to_unit(_at_size(frames, _CODEC_SIZE).movedim(-1, 1))
        tokens.append(codec.encode(small[:, None], points[:, None]).cat()[:, 0])
    return torch.cat(tokens)
