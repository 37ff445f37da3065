"""Random 64x64 cuts of frames that lie on the training device: many at once, by gathers and area averages.

Nothing here waits for the device: how many cuts a pool gives is a fixed share of the batch, all else is drawn there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.real.stills import list_stills
from ...data.real.video import list_clips, read_clip
from ...data.shards import read_rows
from ...face.landmarks import EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, LIPS
from ...media.pixels import frames_to_unit, to_unit
from ..frame_store import pad_pictures, read_pictures, shrunk, split_count

CUT = 64


@dataclass
class FramePool:
    """Frames that give ``share`` of a batch.

    Attributes:
        frames: uint8 ``[n, h, w, 3]``; sizes: ``[n, 2]`` height and width of the part of each that is a picture.
        spots: ``[n, 3, 2]`` in [0, 1], middle of the mouth and of either eye; None where they are not known.
        zoom: source pixels per pixel of a cut; above 1 the source is larger than the model's crops.
    """

    name: str
    frames: Tensor
    sizes: Tensor
    share: float
    zoom: tuple[float, float] = (1.0, 1.4)
    spots: Tensor | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def extend(self, other: FramePool) -> None:
        """Add the frames of a pool with frames of the same size."""
        self.frames, self.sizes = torch.cat([self.frames, other.frames]), torch.cat([self.sizes, other.sizes])
        if self.spots is not None and other.spots is not None:
            self.spots = torch.cat([self.spots, other.spots])


def picture_pool(
    name: str,
    pictures: Sequence[NDArray[np.uint8]],
    share: float,
    zoom: tuple[float, float],
    device: torch.device | str = "cpu",
) -> FramePool:
    """A pool of unlabelled pictures ``[h, w, 3]`` of any sizes."""
    frames, sizes = pad_pictures(pictures)
    return FramePool(name, frames.to(device), sizes.to(device), share, zoom)


def shard_pool(
    folder: Path,
    share: float = 0.35,
    every: int = 6,
    name: str = "synthetic",
    seen: set[str] | None = None,
    device: torch.device | str = "cpu",
) -> FramePool | None:
    """Every ``every``-th frame of the shards in a folder that are not in ``seen`` (which grows); None without any."""
    read = read_rows(folder, ("frames", "landmarks"), every, seen, device)
    if read is None:
        return None
    frames, points = read["frames"], read["landmarks"].float()
    spots = torch.stack([points[:, group].mean(1) for group in (LIPS, EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT)], 1)
    height, width = frames.shape[1:3]
    sizes = torch.tensor([height, width], dtype=torch.float32, device=frames.device).expand(len(frames), 2)
    return FramePool(name, frames, sizes, share, (1.0, 1.25), spots)


def real_pools(
    stills: Path | None, videos: Path | None, clips: int = 320, every: int = 8, device: torch.device | str = "cpu"
) -> list[FramePool]:
    """Pools of portraits (the last 40 left out) and of talking video (the last 50 clips left out)."""
    pools: list[FramePool] = []
    if stills is not None:
        pools.append(picture_pool("stills", read_pictures(list_stills(stills, 40)[0]), 0.45, (1.0, 1.9), device))
    if videos is not None:
        paths = list_clips(videos)[0]
        paths = paths[:: max(1, len(paths) // clips)]
        frames = [shrunk(frame) for p in paths for frame in read_clip(p, every, with_audio=False).frames]
        pools.append(picture_pool("video", frames, 0.2, (1.0, 1.6), device))
    return pools


def area_weights(side: Tensor, size: int, reach: int) -> Tensor:
    """Share of each of ``reach`` source pixels in each of ``size`` averages: ``[n]`` sides to ``[n, size, reach]``.

    Output pixel i is the mean of the source over [i, i + 1) * side / size.
    """
    step = (side / size)[:, None, None]
    output = torch.arange(size, device=side.device, dtype=torch.float32)[None, :, None]
    source = torch.arange(reach, device=side.device, dtype=torch.float32)[None, None]
    overlap = torch.minimum((output + 1) * step, source + 1) - torch.maximum(output * step, source)
    return overlap.clamp_min(0) / step


def cut_squares(
    frames: Tensor, index: Tensor, corner: Tensor, side: Tensor, mirrored: Tensor, size: int, reach: int
) -> Tensor:
    """Cut squares out of frames and shrink them by averaging.

    Args:
        frames: uint8 ``[n, h, w, 3]``; index: ``[b]`` which of them.
        corner: ``[b, 2]`` left and top in whole pixels; side: ``[b]`` in whole pixels, at most ``reach``.
        mirrored: ``[b]`` bool, flipped left to right.

    Returns:
        Float ``[b, 3, size, size]`` in [-1, 1].
    """
    steps = torch.arange(reach, device=frames.device)
    columns = (corner[:, :1].long() + steps).clamp_max(frames.shape[2] - 1)
    rows = (corner[:, 1:].long() + steps).clamp_max(frames.shape[1] - 1)
    window = to_unit(frames[index[:, None, None], rows[:, :, None], columns[:, None, :]])
    down = area_weights(side, size, reach)
    across = torch.where(mirrored[:, None, None], down.flip(1), down)
    lines = torch.bmm(down, window.flatten(2)).unflatten(2, (reach, 3))
    return torch.einsum("bxk,bykc->bcyx", across, lines)


def random_cuts(pool: FramePool, count: int, size: int = CUT) -> Tensor:
    """``[count, 3, size, size]`` in [-1, 1] of random frames, at random scales within the pool's zoom.

    Where landmarks exist, half of the cuts are about the mouth or an eye.
    """
    device = pool.frames.device
    index = torch.randint(len(pool), (count,), device=device)
    extent = pool.sizes[index].flip(1)  # width, height
    low, high = pool.zoom
    side = (size * (low + (high - low) * torch.rand(count, device=device))).floor()
    side = torch.minimum(side, extent.amin(1))
    centre = (0.15 + 0.75 * torch.rand(count, 2, device=device)) * extent
    if pool.spots is not None:
        choice = torch.rand(count, device=device)
        spot = pool.spots[index, (choice >= 0.55).long() + (choice >= 0.775).long()]
        near = spot * extent + 0.15 * side[:, None] * torch.randn(count, 2, device=device)
        centre = torch.where(torch.rand(count, 1, device=device) < 0.5, near, centre)
    corner = torch.minimum((centre - side[:, None] / 2).floor().clamp_min(0), extent - side[:, None])
    mirrored = torch.rand(count, device=device) < 0.5
    return cut_squares(pool.frames, index, corner, side, mirrored, size, int(size * high) + 1)


def cut_batch(pools: Sequence[FramePool], batch_size: int, size: int = CUT) -> Tensor:
    """``[b, 3, size, size]`` in [-1, 1], channels last, from the pools by their shares, with shifted colours."""
    counts = split_count(batch_size, [pool.share for pool in pools])
    x = torch.cat([random_cuts(pool, n, size) for pool, n in zip(pools, counts, strict=True) if n])
    gain = 1.0 + 0.07 * torch.randn(batch_size, 3, 1, 1, device=x.device)
    offset = 0.06 * torch.randn(batch_size, 3, 1, 1, device=x.device)
    return (x * gain + offset).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def validation_pictures(stills: Path | None, videos: Path | None, shards: Path | None, count: int = 12) -> Tensor:
    """Held-out 128 px crops ``[n, 3, 128, 128]`` in [-1, 1]: portraits, talking video, synthetic frames."""
    pictures: list[NDArray[np.uint8]] = []
    if stills is not None:
        for picture in read_pictures(list_stills(stills, 40)[1][:count]):
            small = cv2.resize(picture[20:205, 20:205], (128, 128), interpolation=cv2.INTER_AREA)
            pictures.append(np.asarray(small, np.uint8))
    if videos is not None:
        for path in list_clips(videos)[1][: count // 2]:
            frame = read_clip(path, with_audio=False).frames[25]
            pictures.append(cv2.resize(frame[20:180, 20:180], (128, 128), interpolation=cv2.INTER_AREA))
    read = read_rows(shards, ("frames",), 25) if shards is not None else None
    if read is not None:
        pictures += list(read["frames"][:: max(1, len(read["frames"]) // count)][:count].numpy())
    return frames_to_unit(np.stack(pictures))
