"""Frames composed in bytes by OpenCV: the portrait moved by a flow, the painted parts laid over it.

What ``part_compositing.py`` says in torch, for pictures that go into a video. Only the square that moves is sampled, in
bands of rows whose coordinates stay in the processor's cache. Only where a part is painted it is laid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .part_places import PartPlaces

Bytes = NDArray[np.uint8]
Square = tuple[int, int, int]
"""Left, top and side in pixels of a picture, which it may leave."""
_BAND = 64


@dataclass(frozen=True)
class MovingPicture:
    """A picture whose head moves.

    Attributes:
        pixels: ``[h, w, 3]``; crop: the face crop in it; moving: what the flow covers.
    """

    pixels: Bytes
    crop: Square
    moving: Square

    def compose(self, flow: Tensor, painted: Tensor, places: PartPlaces, index: int) -> Bytes:
        """One frame ``[h, w, 3]``.

        Args:
            flow: backward displacement over :attr:`moving` in crop widths ``[2, c, c]``, zero at its edge unless the
                whole picture moves.
            painted: parts ``[p, 3, s, s]`` uint8; places, index: theirs, and the frame's place in them.
        """
        frame = self._moved(np.ascontiguousarray(flow.numpy()))
        for square, region, part in zip(places.squares[index], places.regions[index], painted, strict=True):
            self._lay(frame, square.double().numpy(), region[0].numpy(), part.permute(1, 2, 0).contiguous().numpy())
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
        rows = [cv2.resize(plane * self.crop[2], (plane.shape[1], side)) for plane in flow]
        columns = np.arange(x0, x1, dtype=np.float32)
        for start in range(y0, y1, _BAND):
            end = min(start + _BAND, y1)
            across, down = (
                cv2.resize(plane[start - top : end - top], (side, end - start))[:, x0 - left : x1 - left]
                for plane in rows
            )
            down = down + np.arange(start, end, dtype=np.float32)[:, None]
            frame[start:end, x0:x1] = cv2.remap(
                self.pixels, across + columns, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
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
        seen = cv2.warpAffine(part, to_window, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(region, to_window, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        window[:] = cv2.blendLinear(seen, window, mask, 1 - mask)


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
    return (picture * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def as_tensor(frame: Bytes) -> Tensor:
    """A frame ``[h, w, 3]`` as uint8 ``[1, 3, h, w]`` of the same memory."""
    return torch.from_numpy(frame).permute(2, 0, 1)[None]
