"""Pictures of painted mouths and eyes: the autoencoder's decoder, taught on what the denoiser paints (C).

An autoencoder learns to give back the latents of true pictures. Those that few steps of sampling arrive at are softer,
and it gives back the softness. This decoder begins with the same weights and learns to make a picture of the painted
latents. It is also shown where lips and lids run, and the portrait's own part, whose skin and hair it can keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MCDMConfig
from .inputs.shape_maps import MAP_CHANNELS, draw_shapes
from .layers.zero_module import zero_module
from .vae import ResidualBlock, TinyAutoencoder


class PartDecoder(nn.Module):
    """Decodes latents of parts. Levels count from half of the pictures' resolution downwards.

    Args:
        config: of the whole model; ``part_decoder`` gives the widths and the blocks of each level.
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

    def portrait_features(self, portraits: Tensor) -> list[Tensor]:
        """What portraits' parts ``[b, 3, s, s]`` in [-1, 1] add at each level but the lowest, ``[b, c, h, w]``."""
        x, added = F.pixel_unshuffle(portraits, 2), []
        for look, give in zip(self.portrait_in, self.portrait_out, strict=True):
            x = F.silu(look(x))
            added.append(give(x))
        return added

    def forward(self, latents: Tensor, shapes: Tensor, portraits: Sequence[Tensor]) -> Tensor:
        """Decode videos of parts.

        Args:
            latents: ``[b, f, c, h, w]``; shapes: their shape tokens ``[b, f, 2, d]``.
            portraits: :meth:`portrait_features` of their portraits.

        Returns:
            ``[b, f, 3, s, s]``, about in [-1, 1], not clamped.
        """
        videos, frames = latents.shape[:2]
        drawn = draw_shapes(shapes.flatten(0, 1), latents.shape[-1]).to(latents)
        x = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.blocks[-1](self.conv_in(x) + self.shape_in(drawn))
        for level in reversed(range(len(portraits))):
            seen = portraits[level].repeat_interleave(frames, 0)
            x = self.blocks[level](self.up[level](x) + seen)
        return F.pixel_shuffle(self.conv_out(F.silu(x)), 2).unflatten(0, (videos, frames))

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
