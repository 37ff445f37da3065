"""Motion that can be seen: lips and lids, told as points in two tokens, drawn as maps for the UNet's input (C).

The paper's UNet reads motion tokens by attention alone. A small one learns slowly from them where a contour runs. So
the points that the motion decoder makes of the tokens (section B.2) go along as tokens of their own. The UNet also
draws them, as signed distances to closed contours, of the frame and of the portrait. Nothing of the picture comes in
this way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...face.part_shapes import CONTOURS, SHAPE_TOKENS, SHAPE_WIDTH, VERTICES

_REACHES = (0.05, 0.25)
"""Distances, in parts, at which a map is 0.76: one for the edge, one for the way to it."""
MAP_CHANNELS = SHAPE_TOKENS * CONTOURS * len(_REACHES) * 4
"""Maps are drawn at twice the latents' side and unshuffled."""


def contour_distance(contours: Tensor, side: int) -> Tensor:
    """Signed distance of the cells of a ``side x side`` grid over [0, 1] to closed contours; negative inside.

    Args:
        contours: vertices in order, ``[n, k, 2]``; a vertex may be there twice.

    Returns:
        ``[n, side, side]``.

    Example:
        >>> square = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]])
        >>> [round(float(d), 3) for d in contour_distance(square, 4)[0, 1]]
        [0.125, -0.125, -0.125, 0.125]
    """
    middles = (torch.arange(side, device=contours.device, dtype=contours.dtype) + 0.5) / side
    x, y = contours.unbind(-1)
    next_x, next_y = x.roll(-1, 1), y.roll(-1, 1)
    edge_x, edge_y = next_x - x, next_y - y
    # Maps [n, k, side, side] are few: what a coordinate says alone keeps one axis, across or down.
    across, down = middles - x[..., None], middles - y[..., None]
    share = 1 / (edge_x.square() + edge_y.square()).clamp_min(1e-8)
    along = (across * (edge_x * share)[..., None])[:, :, None] + (down * (edge_y * share)[..., None])[..., None]
    along = along.clamp_(0, 1)
    off_x = (along * -edge_x[..., None, None]).add_(across[:, :, None])
    off_y = (along * -edge_y[..., None, None]).add_(down[..., None])
    distance = off_x.square_().add_(off_y.square_()).amin(1).clamp_min_(1e-10).sqrt_()
    # Even-odd rule: edges that a ray from the cell to one side crosses.
    spans = (y[..., None] <= middles) != (next_y[..., None] <= middles)
    sign = edge_y.sign()
    turn = (down * (edge_x * sign)[..., None])[..., None] - (across * (edge_y * sign)[..., None])[:, :, None]
    inside = ((turn > 0) & spans[..., None]).sum(1) % 2 == 1
    return torch.where(inside, -distance, distance)


def draw_shapes(tokens: Tensor, side: int) -> Tensor:
    """Draw the contours of shape tokens.

    Args:
        tokens: ``[n, 2, d]``, the frame's contours and the portrait's (``face/part_shapes.py``).
        side: of the maps.

    Returns:
        ``[n, MAP_CHANNELS, side, side]`` in [-1, 1].
    """
    contours = rearrange(tokens[..., :SHAPE_WIDTH].float(), "n t (c k xy) -> (n t c) k xy", c=CONTOURS, k=VERTICES)
    distance = rearrange(contour_distance(contours, 2 * side), "(n s) h w -> n s h w", n=len(tokens))
    maps = torch.stack([torch.tanh(distance / reach) for reach in _REACHES], 2).flatten(1, 2)
    return F.pixel_unshuffle(maps, 2)
