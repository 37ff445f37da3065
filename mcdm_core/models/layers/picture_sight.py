"""What pictures of a person show where a painted frame is like them, to the pixel (non-local means, C)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...face.part_shapes import CONTOURS, SHAPE_WIDTH, VERTICES
from ..inputs.shape_maps import contour_distance
from .zero_module import zero_module

CELL = 4
"""Side in pixels of the cells that are looked for; they are compared at half of the resolution."""
REACH = 2
"""How many pixels off a cell is looked for, each way."""
SURROUNDINGS = 7
"""Cells a side whose likeness counts for the middle one."""
CONTOUR_WEIGHT, CONTOUR_REACH = 0.5, 0.05
"""Of unlike contours beside unlike pictures; and the distance, in parts, at which a drawn contour is 0.76."""
_KEY = 3 * (CELL // 2) ** 2
_UNSHUFFLED = 12
"""Channels of a picture unshuffled by 2."""
_FRAMES_AT_ONCE = 4


@dataclass(frozen=True)
class SeenPictures:
    """Cells of pictures, moved every way: ``keys [b, cells, n, 12]``, and their ``values [b, cells, n, 48]``. The
    ``contours [b, cells, pictures, 2]`` are drawn in the pictures' own places."""

    keys: Tensor
    values: Tensor
    contours: Tensor


class PictureSight(nn.Module):
    """Finds the cells of a painted frame in pictures of the person, and lays what they show over the frame.

    A query q is a rough picture, told from the decoder's features at a quarter of the resolution. With the cells k_i of
    the pictures, moved by up to :data:`REACH` pixels, at half of the resolution, and v_i at all of it,

        found = sum_i softmax_i(-sharpness mean(|q - k_i|^2 + weight |c - c_i|^2)) v_i ,

    where c are the contours, drawn as distances, and the mean is over the cell and its surroundings. A rough mouth may
    have teeth of another colour than the person's; its contours are those that were asked for. What is found is laid
    over the decoder's own picture by gates, one for each pixel, and a correction is added.

    Args:
        width, below: channels of the features at a quarter and at half of the resolution.
    """

    def __init__(self, width: int, below: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((), math.log(1000.0)))
        self.query = nn.Conv2d(width, _KEY, 3, padding=1)
        self.compare = nn.Conv2d(below + 2 * _UNSHUFFLED + 2, below, 3, padding=1)
        self.gates = zero_module(nn.Conv2d(below, _UNSHUFFLED // 3, 3, padding=1))  # half of each picture
        self.correction = zero_module(nn.Conv2d(below, _UNSHUFFLED, 3, padding=1))

    @staticmethod
    def look(pictures: Tensor, shapes: Tensor) -> SeenPictures:
        """See pictures ``[b, n, 3, k, k]`` in [-1, 1] with their contours ``[b, n, w]``.

        >>> PictureSight.look(torch.zeros(1, 2, 3, 16, 16), torch.zeros(1, 2, 48)).values.shape
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
        return SeenPictures(keys, values, drawn_contours(shapes, pictures.shape[-1] // CELL))

    def forward(self, queries: Tensor, shapes: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        """Find frames in what was seen.

        Args:
            queries: ``[b, f, 12, h, w]``, see :meth:`query` and :func:`half_resolution_cells`; shapes: the frames'
                contours ``[b, f, w]``.

        Returns:
            What was found ``[b, f, 12, 2h, 2w]``, a picture unshuffled by 2, and how far off ``[b, f, 2, 2h, 2w]``, by
            its looks and by its contours.
        """
        contours = drawn_contours(shapes, queries.shape[-1])
        some = zip(queries.split(_FRAMES_AT_ONCE, 1), contours.split(_FRAMES_AT_ONCE, 2), strict=True)
        found, apart = zip(*(self._find(*part, seen) for part in some), strict=True)  # all at once take much memory
        return torch.cat(found, 1), torch.cat(apart, 1)

    def _find(self, queries: Tensor, contours: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        frames, height = queries.shape[1], queries.shape[-2]
        with torch.autocast(queries.device.type, enabled=False):  # a difference of squares
            apart = _squares_apart(rearrange(queries.float(), "b f c h w -> b (h w) f c"), seen.keys)
            apart = _surrounded(apart, height)
            unlike = _surrounded(_squares_apart(contours, seen.contours), height)
            unlike = unlike.repeat_interleave(apart.shape[3] // unlike.shape[3], 3)
            shares = (-self.log_sharpness.float().exp() * (apart + CONTOUR_WEIGHT * unlike)).softmax(3)
            off = [(shares * far).sum(3, keepdim=True) for far in (apart, unlike)]
            cells = torch.cat([shares @ seen.values, *off], 3)
            cells = rearrange(cells, "b (h w) f c -> (b f) c h w", h=height)
            found = F.pixel_shuffle(cells[:, :-2], 2)
            far = F.interpolate(cells[:, -2:], scale_factor=2.0)
        return found.unflatten(0, (-1, frames)), far.unflatten(0, (-1, frames))

    def laid_over(self, own: Tensor, features: Tensor, found: Tensor, off: Tensor) -> Tensor:
        """The picture to show ``[n, 12, h, w]``, unshuffled by 2 as all.

        Args:
            own: the decoder's; features: what it was made of ``[n, c, h, w]``; found, off: see :meth:`forward`.
        """
        found, off = found.to(own), off.to(own)
        compared = F.silu(self.compare(torch.cat([features, own, found, off], 1)))
        gates = self.gates(compared).sigmoid().repeat(1, _UNSHUFFLED // 4, 1, 1)
        return torch.lerp(own, found, gates) + self.correction(compared)


def _squares_apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference ``[b, cells, f, n]`` of ``[b, cells, f, c]`` and ``[b, cells, n, c]``."""
    apart = one.square().sum(3, keepdim=True) + other.square().sum(3)[:, :, None]
    return (apart - 2 * one @ other.transpose(2, 3)) / one.shape[3]


def _surrounded(apart: Tensor, height: int) -> Tensor:
    """Means over a cell ``[b, (h w), f, n]`` and its surroundings."""
    around = rearrange(apart, "b (h w) f n -> b (f n) h w", h=height)
    around = F.avg_pool2d(around, SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False)
    return rearrange(around, "b (f n) h w -> b (h w) f n", f=apart.shape[2])


def drawn_contours(shapes: Tensor, side: int) -> Tensor:
    """Contours ``[b, n, w]`` as distances, ``[b, side side, n, 2]``: 0 on a contour, near -1 inside, near 1 outside."""
    points = rearrange(shapes[..., :SHAPE_WIDTH].float(), "b n (c k xy) -> (b n c) k xy", c=CONTOURS, k=VERTICES)
    maps = torch.tanh(contour_distance(points, side) / CONTOUR_REACH)
    return rearrange(maps, "(b n c) h w -> b (h w) n c", n=shapes.shape[1], c=CONTOURS)


def half_resolution_cells(pictures: Tensor) -> Tensor:
    """Pictures ``[n, 3, k, k]`` at half of the resolution, cell by cell ``[n, 12, k/4, k/4]``: what queries should be.

    >>> half_resolution_cells(torch.zeros(2, 3, 96, 96)).shape
    torch.Size([2, 12, 24, 24])
    """
    return F.pixel_unshuffle(F.avg_pool2d(pictures, 2), CELL // 2)
