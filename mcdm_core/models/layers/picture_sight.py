"""What pictures of a person show where a painted frame is like them, to the pixel (non-local means, C)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .zero_module import zero_module

CELL = 4
"""Side in pixels of the cells that are looked for; they are compared at half of the resolution."""
REACH = 2
"""How many pixels off a cell is looked for, each way."""
SURROUNDINGS = 7
"""Cells a side whose likeness counts for the middle one."""
_KEY = 3 * (CELL // 2) ** 2
_UNSHUFFLED = 12
"""Channels of a picture unshuffled by 2."""
_FRAMES_AT_ONCE = 4


@dataclass(frozen=True)
class SeenPictures:
    """Cells of pictures, moved every way: ``keys [b, cells, n, 12]``, and their ``values [b, cells, n, 48]``."""

    keys: Tensor
    values: Tensor


class PictureSight(nn.Module):
    """Finds the cells of a painted frame in pictures of the person, and lays what they show over the frame.

    A query q is a rough picture, told from the decoder's features at a quarter of the resolution. With the cells k_i of
    the pictures, moved by up to :data:`REACH` pixels, at half of the resolution, and v_i at all of it,

        found = sum_i softmax_i(-sharpness mean |q - k_i|^2) v_i ,

    where the mean is over the cell and its surroundings. It is laid over the decoder's own picture by gates, one for
    each pixel, and a correction is added.

    Args:
        width, below: channels of the features at a quarter and at half of the resolution.
    """

    def __init__(self, width: int, below: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((), math.log(1000.0)))
        self.query = nn.Conv2d(width, _KEY, 3, padding=1)
        self.compare = nn.Conv2d(below + 2 * _UNSHUFFLED + 1, below, 3, padding=1)
        self.gates = zero_module(nn.Conv2d(below, _UNSHUFFLED // 3, 3, padding=1))  # half of each picture
        self.correction = zero_module(nn.Conv2d(below, _UNSHUFFLED, 3, padding=1))

    @staticmethod
    def look(pictures: Tensor) -> SeenPictures:
        """See pictures ``[b, n, 3, k, k]`` in [-1, 1].

        >>> PictureSight.look(torch.zeros(1, 2, 3, 16, 16)).values.shape
        torch.Size([1, 16, 50, 48])
        """
        window, count = CELL + 2 * REACH, 2 * REACH + 1
        wide = F.pad(pictures.flatten(0, 1).float(), (REACH,) * 4, mode="replicate")
        windows = rearrange(F.unfold(wide, window, stride=CELL), "(b n) p c -> b c n p", b=len(pictures))
        # Which pixels of a window are the cell that is moved so far, in the order of a picture unshuffled twice.
        pixels = torch.arange(3 * window**2, dtype=torch.float, device=wide.device).view(1, 3, window, window)
        moved = [pixels[..., y : y + CELL, x : x + CELL] for y in range(count) for x in range(count)]
        places = F.pixel_unshuffle(F.pixel_unshuffle(torch.cat(moved), 2), 2).flatten(1).long()
        values = windows[..., places].flatten(2, 3)
        # Half of the resolution: the mean over what the first unshuffling has put apart.
        keys = values.unflatten(3, (3, 4, 4)).mean(4).flatten(3)
        return SeenPictures(keys, values)

    def forward(self, queries: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        """Find frames in what was seen.

        Args:
            queries: ``[b, f, 12, h, w]``, see :meth:`query` and :func:`half_resolution_cells`.

        Returns:
            What was found ``[b, f, 12, 2h, 2w]``, a picture unshuffled by 2, and how far off ``[b, f, 1, 2h, 2w]``.
        """
        found, apart = zip(
            *(self._find(part, seen) for part in queries.split(_FRAMES_AT_ONCE, 1)), strict=True
        )  # all at once takes a lot of memory
        return torch.cat(found, 1), torch.cat(apart, 1)

    def _find(self, queries: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        frames, height = queries.shape[1], queries.shape[-2]
        with torch.autocast(queries.device.type, enabled=False):  # a difference of squares
            asked = rearrange(queries.float(), "b f c h w -> b (h w) f c")
            apart = asked.square().sum(3, keepdim=True) + seen.keys.square().sum(3)[:, :, None]
            apart = (apart - 2 * asked @ seen.keys.transpose(2, 3)) / _KEY
            around = rearrange(apart, "b (h w) f n -> b (f n) h w", h=height)
            around = F.avg_pool2d(around, SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False)
            apart = rearrange(around, "b (f n) h w -> b (h w) f n", f=frames)
            shares = (-self.log_sharpness.float().exp() * apart).softmax(3)
            cells = torch.cat([shares @ seen.values, (shares * apart).sum(3, keepdim=True)], 3)
            cells = rearrange(cells, "b (h w) f c -> (b f) c h w", h=height)
            found = F.pixel_shuffle(cells[:, :-1], 2)
            off = F.interpolate(cells[:, -1:], scale_factor=2.0)
        return found.unflatten(0, (-1, frames)), off.unflatten(0, (-1, frames))

    def laid_over(self, own: Tensor, features: Tensor, found: Tensor, off: Tensor) -> Tensor:
        """The picture to show ``[n, 12, h, w]``, unshuffled by 2 as all.

        Args:
            own: the decoder's; features: what it was made of ``[n, c, h, w]``; found, off: see :meth:`forward`.
        """
        found, off = found.to(own), off.to(own)
        compared = F.silu(self.compare(torch.cat([features, own, found, off], 1)))
        gates = self.gates(compared).sigmoid().repeat(1, _UNSHUFFLED // 4, 1, 1)
        return torch.lerp(own, found, gates) + self.correction(compared)


def half_resolution_cells(pictures: Tensor) -> Tensor:
    """Pictures ``[n, 3, k, k]`` at half of the resolution, cell by cell ``[n, 12, k/4, k/4]``: what queries should be.

    >>> half_resolution_cells(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 12, 24, 24])
    """
    return F.pixel_unshuffle(F.avg_pool2d(pictures, 2), CELL // 2)
