"""Frames composed where they were painted, on a GPU: what ``in_bytes.py`` does by OpenCV, in torch.

The host asks for no value. It does not know where a part lies, so each is looked for in all of the square that moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..part_places import PartPlaces
from ..parts import inverse
from .in_bytes import Square


@dataclass(frozen=True)
class MovingTensor:
    """A picture whose head moves.

    Attributes:
        picture: ``[3, h, w]`` in [0, 1] on any device; crop: the face crop in it; moving: what the flow covers.
    """

    picture: Tensor
    crop: Square
    moving: Square

    def compose(self, flow: Tensor, painted: Tensor, places: PartPlaces, index: int) -> Tensor:
        """One frame ``[3, h, w]`` in [0, 1].

        Args:
            flow: backward displacement over :attr:`moving` in crop widths ``[2, c, c]``, zero at its edge unless the
                whole picture moves.
            painted: parts ``[p, 3, s, s]`` uint8; places, index: theirs, and the frame's place in them.
        """
        left, top, side = self.moving
        height, width = self.picture.shape[-2:]
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(top, 0), min(top + side, height)
        frame = self.picture.clone()
        if x1 <= x0 or y1 <= y0:
            return frame
        x, y = self._middles(x0, x1), self._middles(y0, y1)[:, None]
        fine = F.interpolate(flow[None].float(), size=(side, side), mode="bilinear", align_corners=False)[0]
        across, down = self.crop[2] * fine[:, y0 - top : y1 - top, x0 - left : x1 - left]
        grid = torch.stack([(x + across) / width, (y + down) / height], -1)[None] * 2 - 1
        window = F.grid_sample(self.picture[None], grid, padding_mode="border", align_corners=False)
        u, v = (x - self.crop[0]) / self.crop[2], (y - self.crop[1]) / self.crop[2]
        shown = painted.float() / 255
        for part, region, to_part in zip(shown, places.shown[index], inverse(places.squares[index]), strict=True):
            place = torch.stack([row[0] * u + row[1] * v + row[2] for row in to_part], -1)[None] * 2 - 1
            seen = F.grid_sample(part[None], place, mode="bicubic", padding_mode="border", align_corners=False)
            # Outside of its square a part has no region, so that its mask ends there.
            mask = F.grid_sample(region[None].float(), place, padding_mode="zeros", align_corners=False)
            window = torch.lerp(window, seen, mask)
        frame[:, y0:y1, x0:x1] = window[0].clamp(0, 1)
        return frame

    def _middles(self, begin: int, end: int) -> Tensor:
        return torch.arange(begin, end, device=self.picture.device, dtype=torch.float32) + 0.5
