"""A visible mark: words in the lower right corner of every frame that say that the video is synthetic."""

from __future__ import annotations

import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_HEIGHT, _LEAST = 0.035, 10
"""Of the letters: part of the shorter side, and pixels."""
_WIDEST = 0.9
_OPACITY = 0.75


class VisibleMark:
    """White letters with a dark edge, legible on any picture.

    Args:
        text: the words; height, width: of the frames in pixels.
    """

    def __init__(self, text: str, height: int, width: int) -> None:
        size = max(_LEAST, round(_HEIGHT * min(height, width)))
        extent = self._extent(text, size)
        if extent[2] > _WIDEST * width:
            size = max(1, int(size * _WIDEST * width / extent[2]))
            extent = self._extent(text, size)
        edge, margin = self._edge(size), size // 2
        place = (width - margin - extent[2], height - margin - extent[3])
        picture = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        ImageDraw.Draw(picture).text(
            place,
            text,
            (255, 255, 255, 255),
            ImageFont.load_default(size),
            stroke_width=edge,
            stroke_fill=(0, 0, 0, 255),
        )
        box = picture.getbbox() or (0, 0, 1, 1)
        shown = torch.frombuffer(bytearray(picture.crop(box).tobytes()), dtype=torch.uint8)
        shown = rearrange(shown, "(h w c) -> c h w", h=box[3] - box[1], c=4).float()
        self._rows, self._columns = slice(box[1], box[3]), slice(box[0], box[2])
        self._opacity = shown[3:] / 255 * _OPACITY
        self._letters = shown[:3]

    def __call__(self, frames: Tensor) -> Tensor:
        """The frames ``[..., 3, h, w]``, uint8 or in [0, 1], with the mark, as new ones."""
        marked, letters = frames.clone(), self._letters.to(frames.device)
        if frames.is_floating_point():
            letters = letters / 255
        below = marked[..., self._rows, self._columns]
        mixed = torch.lerp(below.float(), letters, self._opacity.to(frames.device))
        marked[..., self._rows, self._columns] = (mixed if frames.is_floating_point() else mixed.round()).to(frames)
        return marked

    @staticmethod
    def _edge(size: int) -> int:
        return max(1, size // 12)

    @classmethod
    def _extent(cls, text: str, size: int) -> tuple[float, float, float, float]:
        draw = ImageDraw.Draw(Image.new("L", (1, 1)))
        return draw.textbbox((0, 0), text, ImageFont.load_default(size), stroke_width=cls._edge(size))
