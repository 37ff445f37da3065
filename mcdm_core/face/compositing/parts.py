"""Painted parts laid over the portrait at its own resolution.

The portrait's surroundings move by the face's points alone (``outer_warp.py``), at full resolution. In the region of
each part the painted picture is shown as it is, with no threshold and nothing of the warp.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..parts import apply, inverse
from ..reference_warp import warp
from .crop import feather_mask

_FADE = 0.15
"""Part of the surroundings' side over which their movement comes to rest towards the edge."""


def resting_edge(flow: Tensor) -> Tensor:
    """A flow ``[..., 2, c, c]`` that comes to rest towards the edge, and is at rest on it.

    The spline rests at a few points of its frame only; between them it is faded out.
    """
    fade = feather_mask(flow.shape[-1], _FADE, flow.device)[0]
    fade[:: len(fade) - 1] = 0
    fade[:, :: len(fade) - 1] = 0
    return flow * fade.to(flow.dtype)


def move_head(large: Tensor, flow: Tensor, extent: float) -> Tensor:
    """Move a picture of the head and its surroundings with one frame's face.

    Args:
        large: ``[3, S, S]``, concentric with the face crop and ``extent`` times its side.
        flow: of the frame over it (``part_places.py``), ``[2, c, c]`` in crop widths.

    Returns:
        ``[3, S, S]``.
    """
    return warp(large[None], resting_edge(flow)[None] / extent)[0]


def lay_parts(picture: Tensor, squares: Tensor, painted: Tensor, region: Tensor, extent: float = 1.0) -> Tensor:
    """Show painted parts in a picture.

    Args:
        picture: ``[3, S, S]``, concentric with the face crop and ``extent`` times its side.
        squares: of the parts in crop units ``[p, 2, 3]``; painted: ``[p, 3, s, s]``; region: ``[p, 1, s, s]``.

    Returns:
        ``[3, S, S]``.
    """
    side = picture.shape[-1]
    result = picture.clone()
    corners = squares.new_tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for square, part, mask in zip(squares, painted, region, strict=True):
        box = ((apply(square, corners) - 0.5) / extent + 0.5) * side
        left, top = (int(v) for v in box.amin(0).floor().clamp(0, side).tolist())
        right, bottom = (int(v) for v in box.amax(0).ceil().clamp(0, side).tolist())
        if right <= left or bottom <= top:
            continue  # the head has left the picture
        x = torch.arange(left, right, device=picture.device, dtype=torch.float32) + 0.5
        y = torch.arange(top, bottom, device=picture.device, dtype=torch.float32) + 0.5
        down, across = torch.meshgrid(y, x, indexing="ij")
        points = (torch.stack([across, down], -1) / side - 0.5) * extent + 0.5
        grid = apply(inverse(square), points.flatten(0, 1)).view(1, *points.shape) * 2 - 1
        seen = F.grid_sample(part[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        # Outside of its square a part has no region, so that its mask ends there.
        shown = F.grid_sample(mask[None], grid, padding_mode="zeros", align_corners=False)[0]
        window = (..., slice(top, bottom), slice(left, right))
        result[window] = torch.lerp(result[window], seen, shown)
    return result
