"""Pictures of painted mouths and eyes: the autoencoder's decoder, taught on what the denoiser paints (C).

An autoencoder learns to give back the latents of true pictures. Those that few steps of sampling arrive at are softer,
and it gives back the softness. This decoder begins with the same weights and learns to make a picture of the painted
latents. It is also shown where lips and lids run, the portrait's own part, whose skin and hair it can keep, and the
archive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MCDMConfig
from .inputs.gallery import Gallery
from .inputs.shape_maps import MAP_CHANNELS, draw_shapes
from .layers.picture_sight import PictureSight, SeenPictures
from .layers.zero_module import zero_module
from .vae import ResidualBlock, TinyAutoencoder


@dataclass(frozen=True)
class PersonFeatures:
    """What a decoder has seen of a person.

    Attributes:
        portrait: of its part, level by level but the lowest, ``[b, c, h, w]``.
        archive: candidates of :class:`ArchiveSight`, if it looks at one.
        pictures: what :class:`~.layers.picture_sight.PictureSight` has seen, if it looks at any.
    """

    portrait: tuple[Tensor, ...]
    archive: Tensor | None
    pictures: SeenPictures | None


class ArchiveSight(nn.Module):
    """What all archived frames show where a painted frame is like them (non-local means, C).

    The painted surroundings of a cell are compared with those of the same cell and its neighbours in every archived
    frame. With q the painted 3x3 cells, k_i those of candidate i and v_i its middle,

        found = sum_i softmax_i(-sharpness |q - k_i|^2) v_i .

    Layer 2 pools an archived frame and lets one frame read one other; this finds the teeth wherever they were seen. Its
    features are zero at the start.

    Args:
        channels: of the latents; width: of the features.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.full((), math.log(30.0)))
        self.features = zero_module(nn.Conv2d(channels + 1, width, 3, padding=1))

    @staticmethod
    def candidates(archive: Tensor) -> Tensor:
        """Frames ``[b, a, c, h, w]``, each as it is and moved by a cell every way, ``[b, 9 a, c, h, w]``.

        >>> ArchiveSight.candidates(torch.zeros(1, 2, 12, 6, 6)).shape
        torch.Size([1, 18, 12, 6, 6])
        """
        height, width = archive.shape[-2:]
        wide = F.pad(archive.flatten(0, 1), (1, 1, 1, 1), mode="replicate").unflatten(0, archive.shape[:2])
        moves = [(down, across) for down in range(3) for across in range(3)]
        return torch.cat([wide[..., y : y + height, x : x + width] for y, x in moves], 1)

    def found(self, latents: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """For latents ``[b, f, c, h, w]`` what was found ``[b, f, c, h, w]``, and how far off ``[b, f, 1, h, w]``."""
        with torch.autocast(latents.device.type, enabled=False):  # a difference of squares
            painted, seen = latents.float(), candidates.float()
            products = torch.einsum("bfchw,bnchw->bfnhw", painted, seen)
            squares = painted.square().sum(2)[:, :, None] + seen.square().sum(2)[:, None]
            apart = (squares - 2 * products) / latents.shape[2]
            apart = F.avg_pool2d(apart.flatten(0, 1), 3, 1, 1, count_include_pad=False).unflatten(0, latents.shape[:2])
            shares = (-self.log_sharpness.float().exp() * apart).softmax(2)
            found = torch.einsum("bfnhw,bnchw->bfchw", shares, seen)
            return found.to(latents), (shares * apart).sum(2, keepdim=True).to(latents)

    def forward(self, latents: Tensor, candidates: Tensor) -> Tensor:
        """Features ``[b f, width, h, w]`` of latents ``[b, f, c, h, w]`` and :meth:`candidates` of their archives."""
        both = torch.cat(self.found(latents, candidates), 2)
        return self.features(both.flatten(0, 1).contiguous(memory_format=torch.channels_last))


class PartDecoder(nn.Module):
    """Decodes latents of parts. Levels count from half of the pictures' resolution downwards.

    Args:
        config: of the whole model, with the section ``part_decoder``.
    """

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        widths, counts = config.part_decoder.block_channels, config.part_decoder.blocks_per_level
        self.conv_in = nn.Conv2d(config.vae.latent_channels, widths[-1], 3, padding=1)
        self.shape_in = zero_module(nn.Conv2d(MAP_CHANNELS, widths[-1], 3, padding=1))
        # What is seen of the portrait, and what of it is added, level by level; the lowest has the latents alone.
        self.portrait_in = nn.ModuleList([nn.Conv2d(12, widths[0], 3, padding=1)])
        for above, width in pairwise(widths[:-1]):
            self.portrait_in.append(nn.Conv2d(above, width, 4, stride=2, padding=1))
        self.portrait_out = nn.ModuleList([zero_module(nn.Conv2d(width, width, 3, padding=1)) for width in widths[:-1]])
        self.blocks = nn.ModuleList(
            [nn.Sequential(*(ResidualBlock(width) for _ in range(n))) for width, n in zip(widths, counts, strict=True)]
        )
        self.up = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(width, below * 4, 1), nn.PixelShuffle(2), nn.Conv2d(below, below, 3, padding=1))
                for below, width in pairwise(widths)
            ]
        )
        self.conv_out = nn.Conv2d(widths[0], 12, 3, padding=1)
        settings = config.part_decoder
        # An open eye of the portrait is not to shine through lids that are shut.
        gates = [zero_module(nn.Conv2d(width, width, 1)) for width in widths[:-1]] if settings.portrait_gates else []
        self.portrait_gates = nn.ModuleList(gates)
        self.archive: ArchiveSight | None = None
        if settings.archive_sight:
            self.archive = ArchiveSight(config.vae.latent_channels, widths[-1])
        self.pictures = PictureSight(widths[1]) if settings.gallery else None

    def look(
        self, portraits: Tensor, own_shapes: Tensor, archive: Tensor, gallery: Gallery | None = None
    ) -> PersonFeatures:
        """See people once, for all frames of a clip.

        Args:
            portraits: the portraits' parts ``[b, 3, s, s]`` in [-1, 1]; own_shapes: their contours ``[b, w]``.
            archive: latents of archived frames ``[b, a, c, h, w]``.
            gallery: pictures of them in [-1, 1], if there are any.
        """
        x, added = F.pixel_unshuffle(portraits, 2), []
        for look, give in zip(self.portrait_in, self.portrait_out, strict=True):
            x = F.silu(look(x))
            added.append(give(x))
        pictures = None
        if self.pictures is not None and gallery is not None:
            known = Gallery.of_portraits(portraits, own_shapes).joined(gallery)
            pictures = self.pictures.look(known.pictures, known.shapes)
        return PersonFeatures(
            tuple(added), None if self.archive is None else self.archive.candidates(archive), pictures
        )

    def forward(self, latents: Tensor, shapes: Tensor, person: PersonFeatures) -> Tensor:
        """Decode videos of parts.

        Args:
            latents: ``[b, f, c, h, w]``; shapes: their shape tokens ``[b, f, 2, d]``.
            person: from :meth:`look`.

        Returns:
            ``[b, f, 3, s, s]``, about in [-1, 1], not clamped.
        """
        own, queries = self.own(latents, shapes, person)
        if self.pictures is not None and person.pictures is not None and queries is not None:
            # Gradients through the search would lead what is asked away from the frame.
            own = self.pictures(own, queries.detach(), shapes[:, :, 0], person.pictures)
        return F.pixel_shuffle(own, 2).unflatten(0, latents.shape[:2])

    def own(self, latents: Tensor, shapes: Tensor, person: PersonFeatures) -> tuple[Tensor, Tensor | None]:
        """The decoder's own pictures ``[b*f, 12, s/2, s/2]``, unshuffled by 2, and with what they are looked for in
        the gallery, if it looks at one: ``[b, f, 12, s/4, s/4]``."""
        videos, frames = latents.shape[:2]
        queries = None
        drawn = draw_shapes(shapes.flatten(0, 1), latents.shape[-1]).to(latents)
        x = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x) + self.shape_in(drawn)
        if self.archive is not None and person.archive is not None:
            x = x + self.archive(latents, person.archive)
        x = self.blocks[-1](x)
        for level in reversed(range(len(person.portrait))):
            x = self.up[level](x)
            seen = person.portrait[level].repeat_interleave(frames, 0)
            if self.portrait_gates:
                seen = seen * (2 * self.portrait_gates[level](x).sigmoid())
            x = self.blocks[level](x + seen)
            if level == 1 and self.pictures is not None and person.pictures is not None:
                queries = self.pictures.query(x).unflatten(0, (videos, frames))
        return self.conv_out(F.silu(x)), queries

    def continue_from(self, state: Mapping[str, Tensor]) -> bool:
        """Take over another decoder's weights, and its sight of the gallery if both have a like one; tells whether.

        Raises:
            RuntimeError: if they do not fit otherwise.
        """
        sight = {name: value for name, value in self.state_dict().items() if name.startswith("pictures.")}
        given = {name: value for name, value in state.items() if name.startswith("pictures.")}
        rest = {name: value for name, value in state.items() if not name.startswith("pictures.")}
        alike = bool(sight) and {n: v.shape for n, v in given.items()} == {n: v.shape for n, v in sight.items()}
        self.load_state_dict({**rest, **(given if alike else sight)})
        return alike

    @torch.no_grad()
    def begin_at(self, vae: TinyAutoencoder) -> None:
        """Take over the weights of an autoencoder's decoder: the pictures are then its own, but for a rim.

        The latents' normalisation goes into the first convolution, whose padding at the rim is of other values. Blocks
        that a level has beyond the autoencoder's begin by adding nothing.

        Raises:
            RuntimeError: if the widths are not the autoencoder's.
        """
        layers = [layer for layer in vae.decoder if any(True for _ in layer.parameters())]
        first, mean, std = layers.pop(0).state_dict(), vae.latent_mean, vae.latent_std
        shift = (first["weight"] * mean[:, None, None]).sum((1, 2, 3))
        self.conv_in.load_state_dict({"weight": first["weight"] * std[:, None, None], "bias": first["bias"] + shift})
        for level in reversed(range(len(self.blocks))):
            for block in self.blocks[level].modules():
                if isinstance(block, ResidualBlock) and isinstance(layers[0], ResidualBlock):
                    block.load_state_dict(layers.pop(0).state_dict())
                elif isinstance(block, ResidualBlock):
                    zero_module(block.second)
            if level:
                for own in self.up[level - 1].children():
                    if not isinstance(own, nn.PixelShuffle):
                        own.load_state_dict(layers.pop(0).state_dict())
        self.conv_out.load_state_dict(layers.pop().state_dict())
