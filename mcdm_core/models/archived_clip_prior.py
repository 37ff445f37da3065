"""Archived-clip motion prior: frame-aligned attention over reference and archive (section 3.2, B.1).

With F_x the patches of the reference and F_a^i those of archived frame i,

    K = F_x W_K,   V_i = F_a^i W_V,   F_ac^i = softmax(Q K^T / sqrt(d)) V_i .

Keys come from the reference (what stays), values from the archive (what moves). Three consequences are used:

* the map A = softmax(Q K^T / sqrt(d)) depends on the reference alone: once a video, :meth:`reference_attention`;
* A (F_a W_V) = (A F_a) W_V, and the right side projects n rows instead of m;
* a frame's row of F_ac never changes: it is computed when the frame enters the archive.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import MCDMError


class ArchivedClipPrior(nn.Module):
    """Turn archived latents into a few tokens a frame, seen through one map of the reference.

    Sizes: c latent channels, s latent side, p patch, m = (s / p)^2 patches, n queries, d width.
    """

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        prior = config.archived_clip_prior
        channels = config.unet.latent_channels
        if prior.latent_size % prior.patch_size:
            raise MCDMError(
                f"archived_clip_prior.latent_size {prior.latent_size} must be a multiple of its patch_size "
                f"{prior.patch_size}; change one of them in the configuration."
            )
        self.channels = channels
        self.latent_size = prior.latent_size
        patches = (prior.latent_size // prior.patch_size) ** 2
        stride = prior.patch_size
        self.reference_patches = nn.Conv2d(channels, prior.width, stride, stride)
        self.archive_patches = nn.Conv2d(channels, prior.width, stride, stride)
        self.positions = nn.Parameter(torch.empty(patches, prior.width).normal_(std=0.02))
        self.queries = nn.Parameter(torch.empty(prior.num_queries, prior.width).normal_())
        self.to_k = nn.Linear(prior.width, prior.width, bias=False)
        self.to_v = nn.Linear(prior.width, prior.width, bias=False)
        self.norm_out = nn.LayerNorm(prior.width)
        self.to_out = nn.Linear(prior.width, prior.width)

    @torch.no_grad()
    def begin_at_places(self) -> None:
        """Let every query begin at a place of its own, on a square grid over the picture (C).

        From random queries the map starts flat. Every token is the mean of the whole picture, and layer 2 has nothing
        to find for a long time. Keys, values and positions begin as one sinusoidal code of the place.
        """
        patches, width = self.positions.shape
        queries = math.isqrt(len(self.queries))
        self.positions.copy_(_place_code(math.isqrt(patches), width))
        self.queries[: queries**2].copy_(_place_code(queries, width) * (_PEAK / math.sqrt(width)))
        self.reference_patches.weight.mul_(0.2)
        assert self.reference_patches.bias is not None
        self.reference_patches.bias.zero_()
        for layer in (self.to_k, self.to_v):
            layer.weight.copy_(torch.eye(width))

    def _check(self, latents: Tensor, what: str) -> None:
        expected = (self.channels, self.latent_size, self.latent_size)
        if tuple(latents.shape[-3:]) != expected:
            raise MCDMError(
                f"{what} has shape {tuple(latents.shape)}; its last three axes must be {expected} "
                "(channels, height, width). Encode the picture with this model's own autoencoder and image size."
            )

    def reference_attention(self, reference: Tensor) -> Tensor:
        """The video's attention map.

        Args:
            reference: latents of the reference frame ``[b, c, s, s]``.

        Returns:
            ``[b, n, m]``, every row a distribution over the reference's patches.
        """
        self._check(reference, "The reference")
        tokens = rearrange(self.reference_patches(reference), "b d h w -> b (h w) d") + self.positions
        keys = self.to_k(tokens)
        return (self.queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])).softmax(-1)

    def forward(self, attention: Tensor, frames: Tensor) -> Tensor:
        """F_ac of archived frames.

        Args:
            attention: map of :meth:`reference_attention` ``[b, n, m]``.
            frames: latents ``[b, a, c, s, s]``, oldest first.

        Returns:
            ``[b, a, n, d]``; row i depends on frame i only.
        """
        self._check(frames, "The archive")
        patches = self.archive_patches(rearrange(frames, "b a c h w -> (b a) c h w"))
        tokens = rearrange(patches, "ba d h w -> ba (h w) d") + self.positions
        pooled = attention.unsqueeze(1) @ rearrange(tokens, "(b a) m d -> b a m d", b=len(frames))
        return self.to_out(self.norm_out(self.to_v(pooled)))


_PEAK = 9.6
"""Sharpness of the maps at the start: each is about a patch wide."""


def _place_code(side: int, width: int) -> Tensor:
    """Sines and cosines of the cells' middles of a ``side x side`` grid, ``[side^2, width]``, row by row."""
    middles = (torch.arange(side, device="cpu") + 0.5) / side
    down, across = torch.meshgrid(middles, middles, indexing="ij")
    rates = 3 * math.pi * torch.arange(1, width // 4 + 1, device="cpu") / (width // 4)
    waves = [wave(place.reshape(-1, 1) * rates) for place in (across, down) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, -1)


class ArchivePlaces(nn.Module):
    """Where a feature map's cells and the archived tokens are, as codes that attract their like (C).

    F_ac's tokens begin as places on a square grid (:meth:`ArchivedClipPrior.begin_at_places`). With these codes layer 2
    begins by looking where it is. It has to learn only what to do with what it finds.
    """

    def __init__(self, channels: int, cells: int, tokens: int) -> None:
        super().__init__()
        width = 128
        projection = torch.empty(channels, width).normal_(std=_ATTRACTION / math.sqrt(width))
        self.queries = nn.Parameter(_projected(_place_code(math.isqrt(cells), width), projection))
        self.keys = nn.Parameter(_projected(_place_code(math.isqrt(tokens), width), projection))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Codes of the cells ``[cells, channels]`` and of the tokens ``[tokens, channels]``."""
        return self.queries, self.keys


_ATTRACTION = 1.4


def _projected(code: Tensor, projection: Tensor) -> Tensor:
    """Codes ``[k, width]`` by ``projection [channels, width]``: ``[k, channels]``."""
    if projection.is_meta:  # of outlines no product is asked: that imports a computer algebra system
        return projection.new_empty(len(code), len(projection))
    return code.to(projection) @ projection.T
