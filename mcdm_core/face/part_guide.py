"""What the denoiser is told of a part: its surroundings, the portrait's own part, and where it has to paint.

Inside the region to be painted the guide shows the portrait's part, held still, and never the warp. Neither what lips
and lids do nor what lies behind them is given away. The composite's latents are the prior mean of the denoising, with a
variance that says "unknown" in the region (method.md, section 8, C). Parts are a batch axis: ``b * 2`` videos, those of
a portrait one after the other, mouth first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from .outer_warp import outer_parts
from .part_places import PartPlaces
from .part_shapes import contour_change, part_shapes, shape_tokens, shown_regions
from .parts import NUM_PARTS, cut, moved_squares, reference_squares, unknown_regions

REGION_CHANNELS = 4
"""The region is drawn at twice the latents' resolution and unshuffled."""


def guide_channels(latent_channels: int) -> int:
    """Channels of the guide: composite, the portrait's part, region, and which part it is.

    >>> guide_channels(12)
    29
    """
    return 2 * latent_channels + REGION_CHANNELS + 1


@dataclass(frozen=True)
class PartViews:
    """Parts of some frames: ``outer [b*2, f, 3, s, s]``, ``region [b*2, f, 1, s, s]``, ``still [b*2, 3, s, s]`` of the
    portraits, the frames' ``squares [b, f, 2, 2, 3]`` and ``shapes [b, f, 2, 48]``, the portraits' ``own_shapes``."""

    outer: Tensor
    region: Tensor
    still: Tensor
    squares: Tensor
    shapes: Tensor
    own_shapes: Tensor

    @property
    def composite(self) -> Tensor:
        """The warped surroundings with the portrait's own part, held still, in the region."""
        return torch.lerp(self.outer, self.still[:, None].expand_as(self.outer), self.region)

    def shown(self, painted: Tensor) -> Tensor:
        """Parts as a video shows them: ``painted [b*2, f, 3, s, s]`` where it is shown, the warp around it."""
        change = contour_change(self.shapes, self.own_shapes, painted.shape[-1])
        return torch.lerp(self.outer, painted, shown_regions(self.region, change))


def still_parts(portraits: Tensor, squares: Tensor, size: int) -> Tensor:
    """The portraits' own parts: ``[b, 3, h, w]`` and squares ``[b, 2, 2, 3]`` to ``[b*2, 3, size, size]``."""
    return cut(repeat(portraits, "b c h w -> (b p) c h w", p=NUM_PARTS), squares.flatten(0, 1), size)


def part_views(
    portraits: Tensor,
    reference: Tensor,
    landmarks: Tensor,
    size: int,
    squares: Tensor | None = None,
    places: PartPlaces | None = None,
) -> PartViews:
    """See frames of people through their parts.

    Args:
        portraits: ``[b, 3, h, w]`` in [-1, 1]; reference: their landmarks ``[b, 68, 2]``.
        landmarks: of the frames ``[b, f, 68, 2]``.
        size: side of a part in pixels.
        squares: of the portraits, if not :func:`~.parts.reference_squares` of their landmarks.
        places: of the frames of a single portrait, where they are known already.
    """
    frames = landmarks.shape[1]
    squares = reference_squares(reference) if squares is None else squares
    moved = moved_squares(squares, reference, landmarks) if places is None else places.squares[None]
    flat = landmarks.flatten(0, 1)

    def each(x: Tensor) -> Tensor:
        return x.repeat_interleave(frames, 0)

    outer = outer_parts(portraits, each(reference), flat, moved.flatten(0, 1), size)
    if places is None:
        region = unknown_regions(each(reference), each(squares), flat, moved.flatten(0, 1), size)
    else:
        region = places.regions
    by_part = "(b f) p c h w -> (b p) f c h w"
    return PartViews(
        rearrange(outer, by_part, f=frames),
        rearrange(region, by_part, f=frames),
        still_parts(portraits, squares, size),
        moved,
        part_shapes(landmarks, moved),
        part_shapes(reference, squares),
    )


def true_parts(frames: Tensor, squares: Tensor, size: int) -> Tensor:
    """Parts of given frames: ``[b, f, 3, h, w]`` and squares ``[b, f, 2, 2, 3]`` to ``[b*2, f, 3, size, size]``."""
    number, count = frames.shape[:2]
    pictures = repeat(frames, "b f c h w -> (b f p) c h w", p=NUM_PARTS)
    seen = cut(pictures, squares.flatten(0, 2), size)
    return rearrange(seen, "(b f p) c h w -> (b p) f c h w", b=number, f=count, p=NUM_PARTS)


@torch.no_grad()
def part_guide(encode: Callable[[Tensor], Tensor], views: PartViews, still_latents: Tensor) -> Tensor:
    """The UNet's guide.

    Args:
        encode: the autoencoder's: ``[n, 3, s, s]`` in [-1, 1] to normalised latents ``[n, c, h, w]``.
        still_latents: of the portraits' parts ``[b*2, c, h, w]``.

    Returns:
        ``[b*2, f, 2 c + 5, h, w]``: composite (the prior mean), the portrait's part, region, part. The region fades
        where lips or lids are as the portrait has them: there the portrait is known to be right.
    """
    parts, frames = views.outer.shape[:2]
    composite = views.composite.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    latents = encode(composite).unflatten(0, (parts, frames))
    height, width = latents.shape[-2:]
    region = F.interpolate(views.region.flatten(0, 1), size=(2 * height, 2 * width), mode="area")
    change = contour_change(views.shapes, views.own_shapes, 2 * height).flatten(0, 1)
    region = F.pixel_unshuffle(region * change.to(region), 2).unflatten(0, (parts, frames))
    which = torch.linspace(-1, 1, NUM_PARTS, device=latents.device).repeat(parts // NUM_PARTS)
    which = which.view(-1, 1, 1, 1, 1).expand(parts, frames, 1, height, width)
    still = still_latents[:, None].expand(-1, frames, -1, -1, -1)
    return torch.cat([x.to(latents.dtype) for x in (latents, still, region, which)], 2)


def region_variance(guide: Tensor, latent_channels: int, known: float, unknown: float) -> Tensor:
    """Variance of the true latents around the composite's, ``[b*2, f, 1, h, w]``, of a guide."""
    region = guide[:, :, 2 * latent_channels : 2 * latent_channels + REGION_CHANNELS].mean(2, keepdim=True)
    return known + (unknown - known) * region


def part_tokens(tokens: Tensor, reference_tokens: Tensor, views: PartViews) -> Tensor:
    """Motion tokens for every part: what the face does, what it does otherwise than the portrait, and its contours.

    Args:
        tokens: ``[b, f, m, d]``; reference_tokens: of the portraits ``[b, m, d]``.
        views: of the landmarks that the motion decoder makes of the tokens.

    Returns:
        ``[b*2, f, m + 2, 2 d]``; the last two hold the contours of lips or lids (:func:`~.part_shapes.shape_tokens`).
    """
    both = repeat(torch.cat([tokens, tokens - reference_tokens[:, None]], -1), "b f m d -> (b p) f m d", p=NUM_PARTS)
    return torch.cat([both, shape_tokens(views.shapes, views.own_shapes, both.shape[-1]).to(both)], 2)
