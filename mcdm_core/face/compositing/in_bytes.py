"""Frames composed in bytes by OpenCV: the portrait moved by a flow, the painted parts laid over it.

What ``part_compositing.py`` says in torch, for pictures that go into a video. Only the square that moves is sampled, in
bands of rows whose coordinates stay in the processor's cache. Only where a part is painted it is laid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from ..part_places import PartPlaces

Bytes = NDArray[np.uint8]
Square = tuple[int, int, int]
"""Left, top and side in pixels of a picture, which it may leave."""
_BAND = 64
_LARGE, _STEP = 2.5, 4
"""Enlargement of a part from which it is done in two steps, and how much of it the first one does."""


@dataclass(frozen=True)
class MovingPicture:
    """A picture whose head moves.

    Attributes:
        pixels: ``[h, w, 3]``; crop: the face crop in it; moving: what the flow covers.
    """

    pixels: Bytes
    crop: Square
    moving: Square

    @cached_property
    def padded(self) -> Bytes:
        """The pixels with a fourth channel, ``[h, w, 4]``: OpenCV samples these in half the time."""
        import cv2

        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2RGBA), np.uint8)

    def compose(self, flow: Tensor, painted: Tensor, places: PartPlaces, index: int) -> Bytes:
        """One frame ``[h, w, 3]``.

        Args:
            flow: backward displacement over :attr:`moving` in crop widths ``[2, c, c]``, zero at its edge unless the
                whole picture moves.
            painted: parts ``[p, 3, s, s]`` uint8; places, index: theirs, and the frame's place in them.
        """
        frame = self._moved(np.ascontiguousarray(flow.numpy()))
        for square, region, part in zip(places.squares[index], places.shown[index], painted, strict=True):
            self._lay(
                frame,
                square.double().numpy(),
                region[0].numpy(),
                rearrange(part, "c h w -> h w c").contiguous().numpy(),
            )
        return frame

    def _moved(self, flow: NDArray[np.float32]) -> Bytes:
        import cv2

        left, top, side = self.moving
        height, width = self.pixels.shape[:2]
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
        if x1 <= x0 or y1 <= y0:
            return self.pixels.copy()
        whole = x0 == y0 == 0 and (y1, x1) == (height, width)
        frame = np.empty_like(self.pixels) if whole else self.pixels.copy()
        # Rows go with the low resolution across, so that only the columns are added at the full one.
        across_rows, down_rows = (
            cv2.resize(plane * self.crop[2], (plane.shape[1], side))[y0 - top : y1 - top] for plane in flow
        )
        down_rows += np.arange(y0, y1, dtype=np.float32)[:, None]
        columns = np.broadcast_to(np.arange(x0, x1, dtype=np.float32), (_BAND, x1 - x0)).copy()
        # Written again for every band: memory that was just used is near.
        across_band, down_band = np.empty((2, _BAND, side), np.float32)
        seen = np.empty((_BAND, x1 - x0, 4), np.uint8)
        for start in range(0, y1 - y0, _BAND):
            number = min(_BAND, y1 - y0 - start)
            across, down = (
                cv2.resize(rows[start : start + number], (side, number), dst=band[:number])[:, x0 - left : x1 - left]
                for rows, band in ((across_rows, across_band), (down_rows, down_band))
            )
            cv2.add(across, columns[:number], dst=across)
            cv2.remap(self.padded, across, down, cv2.INTER_LINEAR, dst=seen[:number], borderMode=cv2.BORDER_REPLICATE)
            cv2.cvtColor(seen[:number], cv2.COLOR_RGBA2RGB, dst=frame[y0 + start : y0 + start + number, x0:x1])
        return frame

    def _lay(self, frame: Bytes, square: NDArray[np.float64], region: NDArray[np.float32], part: Bytes) -> None:
        """Show a part ``[s, s, 3]`` in its region ``[s, s]``, in place."""
        import cv2

        left, top, side = self.crop
        linear = square[:, :2] * (side / len(part))
        # Of the part's pixel (i, j) the middle is at (i + 0.5, j + 0.5).
        shift = square[:, 2] * side + np.array([left, top]) + linear @ np.array([0.5, 0.5]) - 0.5
        shown = np.argwhere(region > 0)
        if not len(shown):
            return
        (low_y, low_x), (high_y, high_x) = shown.min(0) - 1, shown.max(0) + 1
        corners = np.array([[x, y] for x in (low_x, high_x) for y in (low_y, high_y)], np.float64) @ linear.T + shift
        height, width = frame.shape[:2]
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, [width, height]).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, 0, [width, height]).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            return  # the head has left the picture
        to_window = np.column_stack([linear, shift - np.array([x0, y0])])
        window, shape = frame[y0:y1, x0:x1], (x1 - x0, y1 - y0)
        seen = _enlarged(part, to_window, shape)
        mask = cv2.warpAffine(region, to_window, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        window[:] = cv2.blendLinear(seen, window, mask, 1 - mask)


def _enlarged(part: Bytes, affine: NDArray[np.float64], shape: tuple[int, int]) -> Bytes:
    """A part ``[s, s, 3]`` by an affine map of its pixels to those of a window (width, height), bicubically.

    A large one takes two steps, five times as fast and some 60 dB from the same: a bicubic one upright, which is
    separable, and a bilinear one between pixels that lie close by then.
    """
    import cv2

    flags = cv2.INTER_CUBIC
    if abs(np.linalg.det(affine[:, :2])) > _LARGE**2:
        part = np.asarray(cv2.resize(part, None, fx=_STEP, fy=_STEP, interpolation=cv2.INTER_CUBIC), np.uint8)
        linear = affine[:, :2] / _STEP
        # Pixels' middles stay where they are: (x + 0.5) / step - 0.5 of the part.
        shift = affine[:, 2] + (linear - affine[:, :2]) @ np.array([0.5, 0.5])
        affine, flags = np.column_stack([linear, shift]), cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(part, affine, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def available() -> bool:
    """Whether OpenCV is installed.

    >>> available() in (True, False)
    True
    """
    try:
        import cv2
    except ImportError:
        return False
    return hasattr(cv2, "blendLinear")


def picture_bytes(picture: Tensor) -> Bytes:
    """A picture ``[3, h, w]`` in [0, 1] as ``[h, w, 3]``."""
    found = (picture * 255).round_().clamp_(0, 255).to(torch.uint8)
    return rearrange(found, "c h w -> h w c").contiguous().numpy()


def as_tensor(frame: Bytes) -> Tensor:
    """A frame ``[h, w, 3]`` as uint8 ``[1, 3, h, w]`` of the same memory."""
    return rearrange(torch.from_numpy(frame), "h w c -> 1 c h w")
