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
"""``a``, and the distance, in parts, at which a drawn contour is 0.76."""
VERTEX_WEIGHT = 5.0
"""``b``: points, in parts, tell which whole picture is nearest."""
MOVE_WEIGHT = 0.016
"""``m``, where the furthest move is 1: parts are cut by landmarks, so a cell is mostly where it was."""
TRUSTED = 0.2
"""How far off contours may be before what was found counts little: it is another moment's then."""
OFF = 3
"""Ways in which what was found is off: by its looks, by its colour, by its contours."""
_KEY = 3 * (CELL // 2) ** 2
_UNSHUFFLED = 12
"""Channels of a picture unshuffled by 2."""
_LEAST_OFF, _MEAN_OFF = (1e-4, 1e-4, 1e-3), 5.0
"""How far off is told by logarithms: these are added before, and after it."""
_FRAMES_AT_ONCE = 4
_MOVES = range(-REACH, REACH + 1)
_MOVED = [(down**2 + across**2) / (2 * REACH**2) for down in _MOVES for across in _MOVES]
"""How far each of a picture's cells was moved, 1 for the furthest."""


@dataclass(frozen=True)
class SeenPictures:
    """Cells of pictures, moved every way: ``keys [b, cells, n, 12]``, and their ``values [b, cells, n, 48]``. The
    ``contours [b, cells, pictures, 2]`` of the ``shapes [b, pictures, w]`` are drawn in the pictures' own places."""

    keys: Tensor
    values: Tensor
    contours: Tensor
    shapes: Tensor


class PictureSight(nn.Module):
    """Finds the cells of a painted frame in pictures of the person, and lays what they show over the frame.

    A query q is a rough picture, told from the decoder's features at a quarter of the resolution. With the cells k_i of
    the pictures, moved by up to :data:`REACH` pixels, at half of the resolution, and v_i at all of it,

        found = sum_i softmax_i(-sharpness unlike_i) v_i ,
        unlike_i = mean(|q - k_i|^2) - |mean(q - k_i)|^2 + a (mean(|c - c_i|^2) + b |p - p_i|) + m |d_i|^2 .

    The means are over the cell and its surroundings. A rough mouth may have teeth of another colour than the person's,
    so the mean difference does not count. Its contours, drawn as distances c and as points p, are those that were asked
    for. The move d of a cell costs a little. What is found is laid over the decoder's own picture by gates, one for
    each pixel, and a correction is added. Of both there is less, the further off the contours are.

    Gates are not told the decoder's features. These know the people of the training, whom the decoder paints well by
    itself. With them a gate trusts too little in what was found of others.

    Args:
        width: channels of the features that queries are told from; gate_width, low_width: of those that gates are told
            from, at half and at a quarter of the resolution.
    """

    def __init__(self, width: int, gate_width: int = 48, low_width: int = 64) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((), math.log(1000.0)))
        self.query = nn.Conv2d(width, _KEY, 3, padding=1)
        self.compare = nn.Conv2d(2 * _UNSHUFFLED + OFF + CONTOURS, gate_width, 3, padding=1)
        self.down = nn.Conv2d(gate_width, low_width, 3, stride=2, padding=1)
        self.around = nn.Conv2d(low_width, low_width, 3, padding=2, dilation=2)
        self.up = nn.Conv2d(low_width, gate_width, 1)
        self.gates = zero_module(nn.Conv2d(gate_width, _UNSHUFFLED // 3, 3, padding=1))
        assert self.gates.bias is not None  # convolutions have biases
        nn.init.ones_(self.gates.bias)  # what was found is nearer to the truth of strangers than what was painted
        self.correction = zero_module(nn.Conv2d(gate_width, _UNSHUFFLED, 3, padding=1))

    @staticmethod
    def look(pictures: Tensor, shapes: Tensor) -> SeenPictures:
        """See pictures ``[b, n, 3, k, k]`` in [-1, 1] with their contours ``[b, n, w]``.

        >>> PictureSight.look(torch.zeros(1, 2, 3, 16, 16), torch.zeros(1, 2, 48)).values.shape
        torch.Size([1, 16, 50, 48])
        """
        window = CELL + 2 * REACH
        wide = F.pad(pictures.flatten(0, 1).float(), (REACH,) * 4, mode="replicate")
        windows = rearrange(F.unfold(wide, window, stride=CELL), "(b n) p c -> b c n p", b=len(pictures))
        # Which pixels of a window are the cell that is moved so far, in the order of a picture unshuffled twice.
        pixels = torch.arange(3 * window**2, dtype=torch.float, device=wide.device).view(1, 3, window, window)
        moved = [pixels[..., y : y + CELL, x : x + CELL] for y in range(len(_MOVES)) for x in range(len(_MOVES))]
        places = F.pixel_unshuffle(F.pixel_unshuffle(torch.cat(moved), 2), 2).flatten(1).long()
        values = windows[..., places].flatten(2, 3)
        # Half of the resolution: the mean over what the first unshuffling has put apart.
        keys = values.unflatten(3, (3, 4, 4)).mean(4).flatten(3)
        return SeenPictures(keys, values, drawn_contours(shapes, pictures.shape[-1] // CELL), shapes.float())

    def forward(self, own: Tensor, queries: Tensor, shapes: Tensor, seen: SeenPictures) -> Tensor:
        """Pictures to show ``[b*f, 12, 2h, 2w]``, unshuffled by 2.

        Args:
            own: the decoder's, likewise; queries, shapes, seen: see :meth:`find`.
        """
        return self.laid_over(own, shapes, *self.find(queries, shapes, seen))

    def find(self, queries: Tensor, shapes: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        """Find frames in what was seen.

        Args:
            queries: ``[b, f, 12, h, w]``, see :meth:`query` and :func:`half_resolution_cells`; shapes: the frames'
                contours ``[b, f, w]``.

        Returns:
            What was found ``[b, f, 12, 2h, 2w]``, a picture unshuffled by 2, and how far off ``[b, f, 3, 2h, 2w]``, by
            its looks, by its colour and by its contours.
        """
        some = zip(queries.split(_FRAMES_AT_ONCE, 1), shapes.split(_FRAMES_AT_ONCE, 1), strict=True)
        found, apart = zip(*(self._find(*part, seen) for part in some), strict=True)  # all at once take much memory
        return torch.cat(found, 1), torch.cat(apart, 1)

    def _find(self, queries: Tensor, shapes: Tensor, seen: SeenPictures) -> tuple[Tensor, Tensor]:
        frames, height = queries.shape[1], queries.shape[-2]
        with torch.autocast(queries.device.type, enabled=False):  # a difference of squares
            asked = rearrange(queries.float(), "b f c h w -> b (h w) f c")
            tint = _squares_apart(*(_surrounded(_colours(cells), height) for cells in (asked, seen.keys)))
            looks = (_surrounded(_squares_apart(asked, seen.keys), height) - tint).clamp_min(0.0)
            contours = _surrounded(_squares_apart(drawn_contours(shapes, height), seen.contours), height)
            contours = contours + VERTEX_WEIGHT * _vertices_apart(shapes, seen.shapes)[:, None]
            contours = contours.repeat_interleave(len(_MOVED), 3)
            moved = contours.new_tensor(_MOVED).repeat(seen.shapes.shape[1])
            unlike = looks + CONTOUR_WEIGHT * contours + MOVE_WEIGHT * moved
            shares = (-self.log_sharpness.float().exp() * unlike).softmax(3)
            off = [(shares * far).sum(3, keepdim=True) for far in (looks, tint, contours)]
            cells = torch.cat([shares @ seen.values, *off], 3)
            cells = rearrange(cells, "b (h w) f c -> (b f) c h w", h=height)
            found = F.pixel_shuffle(cells[:, :-OFF], 2)
            far = F.interpolate(cells[:, -OFF:], scale_factor=2.0)
        return found.unflatten(0, (-1, frames)), far.unflatten(0, (-1, frames))

    def laid_over(self, own: Tensor, shapes: Tensor, found: Tensor, off: Tensor) -> Tensor:
        """What was found, laid over the decoder's own pictures ``[b*f, 12, 2h, 2w]``.

        Args:
            shapes: the frames' contours ``[b, f, w]``; found, off: see :meth:`find`.
        """
        height = own.shape[-2] // 2
        contours = rearrange(drawn_contours(shapes, height), "b (h w) f c -> (b f) c h w", h=height)
        contours = F.interpolate(contours, scale_factor=2.0).to(own)
        found, off = found.flatten(0, 1).to(own), off.flatten(0, 1)
        told = (torch.log(off + off.new_tensor(_LEAST_OFF).view(-1, 1, 1)) + _MEAN_OFF) / 2
        x = F.silu(self.compare(torch.cat([own, found, told.to(own), contours], 1)))
        low = F.silu(self.down(x))
        x = x + F.interpolate(self.up(F.silu(low + self.around(low))), scale_factor=2.0)
        gates = self.gates(x).sigmoid().repeat(1, _UNSHUFFLED // 4, 1, 1)
        trusted = torch.exp(-(off[:, OFF - 1 :] / TRUSTED).square()).to(own)
        return own + trusted * (gates * (found - own) + self.correction(F.silu(x)))


def _squares_apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference ``[b, cells, f, n]`` of ``[b, cells, f, c]`` and ``[b, cells, n, c]``."""
    apart = one.square().sum(3, keepdim=True) + other.square().sum(3)[:, :, None]
    return (apart - 2 * one @ other.transpose(2, 3)) / one.shape[3]


def _surrounded(apart: Tensor, height: int) -> Tensor:
    """Means over a cell ``[b, (h w), f, n]`` and its surroundings, of each f and n."""
    around = rearrange(apart, "b (h w) f n -> b (f n) h w", h=height)
    around = F.avg_pool2d(around, SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False)
    return rearrange(around, "b (f n) h w -> b (h w) f n", f=apart.shape[2])


def _colours(cells: Tensor) -> Tensor:
    """Mean colours ``[..., 3]`` of cells at half of the resolution ``[..., 12]``."""
    return cells.unflatten(-1, (3, -1)).mean(-1)


def _vertices_apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean distances ``[b, f, n]`` of the contours ``[b, f, w]`` and ``[b, n, w]``, along each axis."""
    one, other = one[..., :SHAPE_WIDTH].float(), other[..., :SHAPE_WIDTH].float()
    return torch.cdist(one, other, p=1.0) / SHAPE_WIDTH


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
