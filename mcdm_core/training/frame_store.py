"""Reading pictures for training at once: of unequal sizes, shrunk and padded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.real.stills import read_still

LONGEST_SIDE = 256
"""Photographs are shrunk to this: the models' crops have 128 px."""
_READERS = 8


def shrunk(picture: NDArray[np.uint8], longest: int = LONGEST_SIDE) -> NDArray[np.uint8]:
    """A picture ``[h, w, 3]`` with no side above ``longest``; smaller ones as they are."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_pictures(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Pictures ``[h, w, 3]`` of image files, at most :data:`LONGEST_SIDE` a side."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda path: shrunk(read_still(path)), paths))


def pad_pictures(pictures: Sequence[NDArray[np.uint8]], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures of any sizes as one tensor, their edges repeated to the right and below.

    Returns:
        uint8 ``[n, h, w, 3]`` (h and w multiples of ``multiple``) and float ``[n, 2]`` height and width of each.
    """
    sizes = [picture.shape[:2] for picture in pictures]
    height, width = (-(-max(size[k] for size in sizes) // multiple) * multiple for k in (0, 1))
    padded = np.empty((len(pictures), height, width, 3), np.uint8)
    for place, picture in zip(padded, pictures, strict=True):
        rows, columns = height - picture.shape[0], width - picture.shape[1]
        place[:] = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else picture
    return torch.from_numpy(padded), torch.tensor(sizes, dtype=torch.float32)


def split_count(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that add up to ``total``, in proportion to the shares as nearly as possible."""
    exact = [total * share / sum(shares) for share in shares]
    counts = Counter({k: int(value) for k, value in enumerate(exact)})
    rest = sorted(range(len(exact)), key=lambda k: exact[k] - int(exact[k]), reverse=True)
    counts.update(rest[: total - sum(counts.values())])
    return [counts[k] for k in range(len(exact))]
