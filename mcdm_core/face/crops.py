"""The square face crop the models work on: where it lies in a portrait, how it is cut out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import FaceTooSmallError, MediaError

logger = logging.getLogger(__name__)

FACE_FRACTION = 0.6
"""Part of the crop's width that the face fills: a face's box is the crop shrunk by it."""
MIN_FACE_PIXELS = 24

Box = Sequence[float]
"""A face's box (left, top, right, bottom) in pixels of the portrait."""


@dataclass(frozen=True)
class CropTransform:
    """Where a square crop lies in its portrait: left-top corner and side, in pixels (may reach outside)."""

    left: float
    top: float
    side: float
    image_width: int
    image_height: int

    def scaled(self, factor: float, width: int, height: int) -> CropTransform:
        """The same crop in a copy of the portrait resized by ``factor`` to width x height."""
        return CropTransform(self.left * factor, self.top * factor, self.side * factor, width, height)


def grown(transform: CropTransform, scale: float) -> CropTransform:
    """The concentric square of ``scale`` times the side, on whole pixels, an equal number more on each side.

    >>> grown(CropTransform(30.0, 30.0, 100.0, 160, 180), 1.2)
    CropTransform(left=20.0, top=20.0, side=120.0, image_width=160, image_height=180)
    """
    more = round(transform.side * (scale - 1) / 2)
    return CropTransform(
        transform.left - more,
        transform.top - more,
        transform.side + 2 * more,
        transform.image_width,
        transform.image_height,
    )


def check_box(
    box: Box, width: int, height: int, min_pixels: int = MIN_FACE_PIXELS
) -> tuple[float, float, float, float]:
    """Check a face's box against the portrait.

    Raises:
        MediaError: if the box is not four numbers in order, or lies outside the picture.
        FaceTooSmallError: if it is narrower than ``min_pixels``.

    >>> check_box((40, 40, 100, 100), 160, 180)
    (40.0, 40.0, 100.0, 100.0)
    """
    if len(box) != 4:
        raise MediaError(f"The face box has {len(box)} numbers; expected 4: left, top, right, bottom in pixels.")
    left, top, right, bottom = (float(value) for value in box)
    if not (left < right and top < bottom):
        raise MediaError(f"The face box {tuple(box)} is empty; expected left < right and top < bottom, in pixels.")
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise MediaError(f"The face box {tuple(box)} lies outside the picture of {width}x{height} pixels.")
    if min(right - left, bottom - top) < min_pixels:
        raise FaceTooSmallError(
            f"The face is {right - left:.0f}x{bottom - top:.0f} pixels; at least {min_pixels} are needed for lips "
            "that can be read. Use a larger or closer picture."
        )
    return left, top, right, bottom


def square_around(box: Box, width: int, height: int, fraction: float = FACE_FRACTION) -> CropTransform:
    """The square whose width a face's box fills to ``fraction``, centred on the box.

    >>> square_around((40, 40, 100, 100), 160, 180, fraction=0.6)
    CropTransform(left=20.0, top=20.0, side=100.0, image_width=160, image_height=180)
    """
    left, top, right, bottom = box
    side = max(right - left, bottom - top) / fraction
    return CropTransform((left + right - side) / 2, (top + bottom - side) / 2, side, width, height)


def resample_crop(image: torch.Tensor, transform: CropTransform, size: int) -> torch.Tensor:
    """Cut the square of ``transform`` out of image [3, h, w] at size x size, edges repeated outside the picture.

    Shrinking averages over the source pixels (antialiased), enlarging is bicubic.
    """
    left, top = int(torch.floor(torch.tensor(transform.left))), int(torch.floor(torch.tensor(transform.top)))
    right, bottom = left + round(transform.side), top + round(transform.side)
    height, width = image.shape[-2:]
    inner = image[:, max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    pad = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
    padded = F.pad(inner[None], pad, mode="replicate")
    if padded.shape[-1] == size:
        return padded[0]
    return F.interpolate(padded, size=(size, size), mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def crop_face(
    image: torch.Tensor, box: Box, size: int, fraction: float = FACE_FRACTION
) -> tuple[torch.Tensor, CropTransform]:
    """Crop a square around a face so that the face fills ``fraction`` of its width.

    Args:
        image: [3, h, w] in [0, 1].
        box: the face (left, top, right, bottom) in pixels.
        size: side of the crop in pixels.

    Returns:
        The crop [3, size, size] in [0, 1] and where it lies.

    Raises:
        MediaError, FaceTooSmallError: see :func:`check_box`.

    >>> crop, where = crop_face(torch.rand(3, 180, 160), (40, 40, 100, 100), 64)
    >>> crop.shape, where.side
    (torch.Size([3, 64, 64]), 100.0)
    """
    height, width = image.shape[-2:]
    checked = check_box(box, width, height)
    transform = snap(square_around(checked, width, height, fraction))
    return resample_crop(image, transform, size), transform


def snap(transform: CropTransform) -> CropTransform:
    """Round a crop to whole pixels, so that cutting out and pasting back are each other's inverse.

    >>> snap(CropTransform(30.4, 29.7, 99.6, 160, 180))
    CropTransform(left=30.0, top=30.0, side=100.0, image_width=160, image_height=180)
    """
    side = max(2, round(transform.side))
    left, top = float(round(transform.left)), float(round(transform.top))
    return CropTransform(left, top, float(side), transform.image_width, transform.image_height)
