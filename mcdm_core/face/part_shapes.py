"""Lips and lids of a frame as points in its parts, and how much changes (drawn by ``models/inputs/shape_maps.py``)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .landmarks import EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, INNER_LIPS, OUTER_LIPS
from .parts import EYES, MOUTH, NUM_PARTS, apply, inverse

SHAPE_TOKENS = 2
"""The frame's contours, and the portrait's."""
CONTOURS, VERTICES = 2, 12
"""Of a part: outer and inner lips, or the two eyes. A contour of fewer points repeats its last one."""
SHAPE_WIDTH = CONTOURS * VERTICES * 2
_LIPS_CHANGED = (0.003, 0.015)
"""Mean distances between two contours of lips, in parts: the error of reading a face twice, and a change in full."""
_LIDS_CHANGED = (0.08, 0.18)
"""The same of lids, in heights of the portrait's own open eye: small eyes shut by little. On 60 portraits open eyes
stay below 0.12 in nineteen frames of twenty, and shut ones are above 0.21."""
_LEAST_HEIGHT = 0.02
"""Of an eye in parts: below it a portrait's eyes are shut, and height tells nothing."""
_CONTOURS = {MOUTH: (OUTER_LIPS, INNER_LIPS), EYES: (EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT)}


def _vertices(contour: slice) -> list[int]:
    """Its landmarks in order, the last one repeated."""
    points = list(range(contour.start, contour.stop))
    return points + points[-1:] * (VERTICES - len(points))


_POINTS = torch.tensor(
    [[point for contour in _CONTOURS[part] for point in _vertices(contour)] for part in sorted(_CONTOURS)]
)
"""Landmarks of the contours of every part, ``[2, 24]``."""


def part_shapes(landmarks: Tensor, squares: Tensor) -> Tensor:
    """Contours of lips and lids in part coordinates: landmarks ``[..., 68, 2]``, squares ``[..., 2, 2, 3]`` of the same
    frames, to ``[..., 2 parts, 48]``."""
    seen = apply(inverse(squares), landmarks[..., None, :, :].expand(*landmarks.shape[:-2], len(_POINTS), -1, -1))
    points = _POINTS.to(landmarks.device)[..., None].expand(*seen.shape[:-2], -1, 2)
    return seen.gather(-2, points).flatten(-2)


def contour_change(shapes: Tensor, portraits: Tensor, side: int) -> Tensor:
    """How much of a part has to be painted because its contours are not the portrait's: 0 nothing, 1 all.

    A part changes as a whole, and so do both eyes when one of them does. Lids move together. The eye that shuts a
    little less would else still be the portrait's, as in a wink.

    Args:
        shapes: of the frames ``[b, f, 2, 48]``; portraits: ``[b, 2, 48]``.

    Returns:
        ``[b*2, f, 1, side, side]``, the same all over a frame's part.
    """
    own = portraits[:, None].unflatten(-1, (CONTOURS, VERTICES, 2))
    apart = (shapes.unflatten(-1, (CONTOURS, VERTICES, 2)) - own).norm(dim=-1).mean(-1)
    height = (own[:, :, EYES, ..., 1].amax(-1) - own[:, :, EYES, ..., 1].amin(-1)).clamp_min(_LEAST_HEIGHT)
    lips = _ramp(apart[:, :, MOUTH], *_LIPS_CHANGED).amax(-1)
    lids = _ramp(apart[:, :, EYES] / height, *_LIDS_CHANGED).amax(-1)
    change = rearrange([lips, lids], "part b f -> (b part) f 1 1 1")
    return change.expand(-1, -1, -1, side, side)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """From 0 at ``low`` to 1 at ``high``, smoothly."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def shown_regions(regions: Tensor, change: Tensor) -> Tensor:
    """Where painted parts are shown: in their regions, but of eyes that look as the portrait's next to nothing.

    There the portrait itself, carried along by the head, is right and sharper. Half of a change is enough to show all
    that is painted, or an open eye would shine through a closing one. A mouth is always shown as it was painted.

    Args:
        regions: ``[b*2, f, 1, s, s]``; change: of :func:`contour_change`, likewise.
    """
    mouth, eyes = regions.unflatten(0, (-1, NUM_PARTS)).unbind(1)
    shown = (2 * change[EYES::NUM_PARTS]).clamp(max=1).to(eyes)
    return torch.stack([mouth, eyes * shown], 1).flatten(0, 1)


def shape_tokens(shapes: Tensor, portraits: Tensor, width: int) -> Tensor:
    """Shape tokens ``[b*2, f, 2, width]`` of frames' shapes ``[b, f, 2, 48]`` and their portraits' ``[b, 2, 48]``."""
    both = torch.stack([shapes, portraits[:, None].expand_as(shapes)], -2)
    return F.pad(rearrange(both, "b f p t d -> (b p) f t d"), (0, width - both.shape[-1]))
