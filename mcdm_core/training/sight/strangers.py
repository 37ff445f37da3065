"""Pictures as far off as those of strangers, for a sight that has to know when not to trust what was painted.

The painter and its decoder know the people of the training. What is painted of them is as near to the truth as what is
found in the gallery. Of strangers it is 2 to 3 dB further off, often by the colour of teeth. A sight taught on the
former alone trusts in paint. So the errors are enlarged, and colours that are wrong are added.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...face.part_shapes import CONTOURS
from ...face.parts import EYES, MOUTH, NUM_PARTS
from ...models.inputs.gallery import Gallery
from ...models.layers.picture_sight import drawn_contours, half_resolution_cells

ENLARGED_SHARE, LATENTS_ENLARGED, PICTURES_ENLARGED = 0.5, 1.3, 0.5
"""Share of videos whose latents' errors are enlarged, by up to so many times themselves; likewise mouths' pictures'."""
BARE_SHARE = 0.3
"""Share of clips that are painted without the archive, which the gallery still holds."""
ALONE_SHARE, FEW_SHARE = {MOUTH: 0.25, EYES: 0.6}, {MOUTH: 0.25, EYES: 0.2}
"""Shares of galleries of the portrait alone, and of up to three pictures: few archives hold just what is painted."""
TINTED_SHARE, INNER_SHADE, INNER_TINT, TINT = 0.6, 0.12, 0.05, 0.06
"""Share of mouths with wrong colours; their deviations in the opening, of all colours and of each, and anywhere."""


def further_off(made: Tensor, clean: Tensor) -> Tensor:
    """Latents ``[b, f, c, h, w]`` with enlarged errors, of some videos."""
    chance, amount = torch.rand(2, len(made), 1, 1, 1, 1, device=made.device)
    return made + LATENTS_ENLARGED * amount * (chance < ENLARGED_SHARE) * (made - clean)


def as_of_strangers(own: Tensor, queries: Tensor, true: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """What a decoder shows and asks of mouths, as of people that it knows less well. Eyes stay: it knows anybody's.

    Args:
        own: its pictures ``[b*p, f, 3, k, k]``; queries: ``[b*p, f, 12, k/4, k/4]``; true: pictures like ``own``.
        shapes: contours ``[b*p, f, w]``.
    """
    videos, frames = own.shape[:2]
    amount = torch.rand(videos, 1, 1, 1, 1, device=own.device)
    change = PICTURES_ENLARGED * amount * (own - true) + wrong_colours(shapes, own.shape[-1])
    change = change * (_part(videos, own.device) == MOUTH).view(-1, 1, 1, 1, 1)
    asked = half_resolution_cells(change.flatten(0, 1)).unflatten(0, (videos, frames))
    return own + change, queries + asked


def less_seen(gallery: Gallery, portraits: Gallery) -> Gallery:
    """Galleries ``[b*p, ...]``, some of which hold few pictures, or the portrait alone."""
    videos, count, device = *gallery.pictures.shape[:2], gallery.pictures.device
    chance, part = torch.rand(videos, device=device), _part(videos, device)
    alone = chance < _share(ALONE_SHARE, part)
    few = ~alone & (chance < _share(ALONE_SHARE, part) + _share(FEW_SHARE, part))
    kept = torch.where(few, torch.randint(1, 4, (videos,), device=device), count)
    order = torch.rand(videos, count, device=device).argsort(1)
    picked = order.gather(1, torch.arange(count, device=device) % kept[:, None])
    every = torch.arange(videos, device=device)[:, None]
    return Gallery(gallery.pictures[every, picked], gallery.shapes[every, picked]).but(alone, portraits)


def _share(shares: dict[int, float], part: Tensor) -> Tensor:
    return torch.tensor([shares[number] for number in range(NUM_PARTS)], device=part.device)[part]


def _part(videos: int, device: torch.device) -> Tensor:
    return torch.arange(videos, device=device) % NUM_PARTS


def wrong_colours(shapes: Tensor, size: int) -> Tensor:
    """Errors of colour ``[b, f, 3, size, size]``: of the opening between the contours, and smooth ones of the part."""
    videos, frames, device = *shapes.shape[:2], shapes.device
    side = size // 4
    inner = rearrange(drawn_contours(shapes, side), "b (h w) f c -> b f c h w", h=side)[:, :, CONTOURS - 1 :]
    soft = F.avg_pool2d((-inner).clamp_min(0.0).flatten(0, 1), 3, 1, 1)
    inside = F.interpolate(soft, scale_factor=4.0, mode="bilinear").unflatten(0, (videos, frames))
    one, each = torch.randn(videos, 1, 1, 1, 1, device=device), torch.randn(videos, 1, 3, 1, 1, device=device)
    field = F.interpolate(torch.randn(videos, 3, 4, 4, device=device), size=size, mode="bilinear")[:, None]
    opening, anywhere = torch.rand(2, videos, 1, 1, 1, 1, device=device) < TINTED_SHARE
    return inside * (INNER_SHADE * one * opening + INNER_TINT * each) + TINT * field * anywhere
