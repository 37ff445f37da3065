"""Denoising UNet: Stable Diffusion 1.5's shape with MCDM's transformer blocks (section 3.1).

Two layouts of one class. ``stable_diffusion`` (``base``) has the modules of Stable Diffusion 1.5 under its names (see
``conversion/``). ``compact`` (``tiny``) is trained from scratch for two CPU cores. It has one residual block a level on
the way up as well, and time by scale and shift. The guide of the warped reference comes in beside the noisy latents.
Motion tokens also enter through the time embedding, and drawn (``shape_maps.py``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import MCDMError
from ..face.part_shapes import SHAPE_TOKENS
from .archived_clip_prior import ArchivePlaces
from .inputs.shape_maps import MAP_CHANNELS, draw_shapes
from .layers.once import Kept, once
from .layers.residual_block import Downsample, ResidualBlock, Upsample
from .layers.time_embedding import TimestepEmbedding, timestep_waves
from .layers.zero_module import zero_module
from .transformer_block import MCDMTransformerBlock

Memory = dict[str, Tensor]


class SpatialTransformer(nn.Module):
    """A transformer block over a feature map; with ``projections``, inside Stable Diffusion's norm and 1x1 layers."""

    def __init__(self, channels: int, groups: int, projections: bool, block: MCDMTransformerBlock):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6) if projections else None
        self.proj_in = nn.Conv2d(channels, channels, 1) if projections else None
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(channels, channels, 1) if projections else None

    def forward(self, x: Tensor, context: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """``x [b f, c, h, w]`` -> the same shape, and the block's new memory ``[b, h w, c]``."""
        y = x if self.proj_in is None or self.norm is None else self.proj_in(self.norm(x))
        y, memory = self.transformer_blocks[0](rearrange(y, "n c h w -> n (h w) c"), **context)
        y = rearrange(y, "n (h w) c -> n c h w", h=x.shape[-2])
        return y if self.proj_out is None else x + self.proj_out(y), memory


class UNetLevel(nn.Module):
    """Residual blocks, each with a transformer where the level has attention, then a change of resolution."""

    attentions: nn.ModuleList
    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(
        self, resnets: Sequence[ResidualBlock], attentions: Sequence[SpatialTransformer], down: bool, up: bool
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        self.has_attention = bool(attentions)
        channels = resnets[-1].out_channels
        if down:
            self.downsamplers = nn.ModuleList([Downsample(channels)])
        if up:
            self.upsamplers = nn.ModuleList([Upsample(channels)])


def _levels_in(blocks: nn.ModuleList) -> list[UNetLevel]:
    """A module list knows its members as modules alone."""
    return [level for level in blocks if isinstance(level, UNetLevel)]


class DenoisingUNet(nn.Module):
    """Denoise f frames at once.

    Keys of the motion memory name the transformer blocks (:attr:`memory_keys`); a memory is a dict of
    ``[b, N, c]`` tensors and belongs to one diffusion timestep.
    """

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        unet = config.unet
        self.config = config
        if unet.layout not in ("stable_diffusion", "compact"):
            raise MCDMError(f"unet.layout is {unet.layout!r}; expected 'stable_diffusion' or 'compact'.")
        self.stock = unet.layout == "stable_diffusion"
        self.frames = config.clip_frames
        self.guide_channels = unet.guide_channels if unet.warped_reference else 0
        widths, count = unet.block_channels, unet.layers_per_block
        if len(unet.attention_levels) != len(widths):
            raise MCDMError(
                f"unet.attention_levels has {len(unet.attention_levels)} entries for {len(widths)} levels of "
                "block_channels; give one for each."
            )
        embedding = widths[0] * 4
        self.time_embedding = TimestepEmbedding(widths[0], embedding)
        self._waves, self._embedding = widths[0], embedding
        # Parts are told how their motion differs from the portrait's as well (face/part_guide.py).
        motion_dim = config.motion_codec.motion_dim * (2 if config.parts.size else 1)
        self.present_dim = motion_dim if self.stock else config.archived_clip_prior.width
        codec = config.motion_codec
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens + SHAPE_TOKENS * unet.shape_maps
        self.motion_tokens: nn.Module | None = None
        self.motion_embedding: nn.Module | None = None
        if not self.stock:
            self.motion_tokens = nn.Linear(motion_dim, self.present_dim)
            self.motion_embedding = nn.Sequential(
                nn.Linear(tokens * motion_dim, embedding), nn.SiLU(), zero_module(nn.Linear(embedding, embedding))
            )
        drawn = MAP_CHANNELS * unet.shape_maps
        self.conv_in = nn.Conv2d(unet.latent_channels + self.guide_channels + drawn, widths[0], 3, padding=1)

        skips = [widths[0]] if self.stock else []
        levels, previous = [], widths[0]
        for i, width in enumerate(widths):
            resnets = [self._resnet(previous if j == 0 else width, width) for j in range(count)]
            attentions = [self._transformer(width, i) for _ in range(count)] if unet.attention_levels[i] else []
            last = i == len(widths) - 1
            levels.append(UNetLevel(resnets, attentions, down=not last, up=False))
            skips += [width] * count + ([width] if self.stock and not last else [])
            previous = width
        self.down_blocks = nn.ModuleList(levels)

        middle = [self._resnet(previous, previous) for _ in range(2 if self.stock else 1)]
        attentions = [self._transformer(previous, len(widths) - 1)] if self.stock else []
        self.mid_block = UNetLevel(middle, attentions, down=False, up=False)

        levels = []
        for i, width in reversed(list(enumerate(widths))):
            resnets = []
            for _ in range(count + 1 if self.stock else count):
                resnets.append(self._resnet(previous + skips.pop(), width))
                previous = width
            attentions = [self._transformer(width, i) for _ in resnets] if unet.attention_levels[i] else []
            levels.append(UNetLevel(resnets, attentions, down=False, up=i > 0))
        self.up_blocks = nn.ModuleList(levels)
        self.conv_norm_out = nn.GroupNorm(unet.norm_groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], unet.latent_channels, 3, padding=1)
        if not self.stock:
            zero_module(self.conv_out)
        self.memory_keys = [f"{name}.{j}" for name, level in self._levels() for j in self._attended(level)]

    def _levels(self) -> list[tuple[str, UNetLevel]]:
        down = [(f"down_blocks.{i}", level) for i, level in enumerate(_levels_in(self.down_blocks))]
        up = [(f"up_blocks.{i}", level) for i, level in enumerate(_levels_in(self.up_blocks))]
        return [*down, ("mid_block", self.mid_block), *up]

    @staticmethod
    def _attended(level: UNetLevel) -> range:
        return range(len(level.attentions)) if level.has_attention else range(0)

    def _resnet(self, channels: int, out: int) -> ResidualBlock:
        groups = self.config.unet.norm_groups
        resnet = ResidualBlock(channels, out, self._embedding, groups, scale_shift=not self.stock)
        if not self.stock:
            # Half of an even gain. From zero, beside attention that begins as noise, 40 steps hardly learn a batch.
            nn.init.normal_(resnet.conv2.weight, std=0.5 / math.sqrt(9 * resnet.conv2.in_channels))
            assert resnet.conv2.bias is not None
            nn.init.zeros_(resnet.conv2.bias)
        return resnet

    def _transformer(self, channels: int, level: int) -> SpatialTransformer:
        unet = self.config.unet
        temporal = {
            "alpha": unet.alpha,
            "length": 2 * self.frames,
            "kind": unet.temporal_attention,
            "features": unet.favor_features,
            "norm_groups": unet.norm_groups,
            "motion_module": self.stock,
        }
        cells = (unet.latent_size >> level) ** 2
        queries = self.config.archived_clip_prior.num_queries
        block = MCDMTransformerBlock(
            channels,
            unet.num_heads,
            self.config.archived_clip_prior.width,
            self.present_dim,
            text_dim=unet.text_context_dim if self.stock else None,
            ff_mult=unet.ff_mult,
            activation="geglu" if self.stock else "gelu",
            temporal=temporal,
            archive_places=ArchivePlaces(channels, cells, queries) if unet.archive_places else None,
        )
        transformer = SpatialTransformer(channels, unet.norm_groups, unet.block_projections, block)
        if not self.stock and transformer.proj_out is not None:
            zero_module(transformer.proj_out)
        return transformer

    def set_temporal_attention(self, kind: str) -> None:
        """Choose ``"exact"`` attention or ``"favor"`` for layer 4; the weights stay."""
        if kind not in ("exact", "favor"):
            raise MCDMError(f"Temporal attention {kind!r} is unknown; choose 'exact' or 'favor'.")
        for block in self.transformer_blocks():
            block.temporal.kind = kind

    def transformer_blocks(self) -> list[MCDMTransformerBlock]:
        """The blocks in the order of :attr:`memory_keys`."""
        modules = (module for _, level in self._levels() for module in level.modules())
        return [module for module in modules if isinstance(module, MCDMTransformerBlock)]

    def memory_shapes(self) -> dict[str, tuple[int, int]]:
        """Of every block of :attr:`memory_keys`, its positions N and channels c: a memory is ``[b, N, c]``."""
        last, side = len(self.down_blocks) - 1, self.config.unet.latent_size
        shapes = {}
        for key, block in zip(self.memory_keys, self.transformer_blocks(), strict=True):
            place, _, rest = key.partition(".")
            level = last if place == "mid_block" else int(rest.split(".")[0])
            level = last - level if place == "up_blocks" else level
            (channels,) = block.norm1.normalized_shape
            shapes[key] = ((side >> level) ** 2, channels)
        return shapes

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        f_ac: Tensor | None,
        f_pc: Tensor | None,
        memory: Memory | None = None,
        guide: Tensor | None = None,
        text: Tensor | None = None,
        bypass_temporal: bool = False,
        kept: Kept | None = None,
    ) -> tuple[Tensor, Memory]:
        """Predict the network's target (see ``diffusion/parameterization.py``) for a clip.

        Args:
            latents: noisy latents ``[b, f, c, h, w]``.
            timestep: ``[b]`` in [0, 1000), may be fractional.
            f_ac: ``[b, f, n, d]`` from the archived-clip prior.
            f_pc: motion tokens ``[b, f, m, dm]`` in the order head, lip, expression, and with ``shape_maps`` two of
                points; or None (stage 1). Of fewer clips than the latents, they are of the first ones: guided and
                free predictions in one batch.
            memory: carried at this timestep by the previous clip, or None at the start of a video.
            guide: ``[b, f, g, h, w]`` where the configuration has a warped reference.
            text: ``[b, k, text_context_dim]``, stock layout only.
            bypass_temporal: leave out layer 4 (stage 1, see the block).
            kept: an empty dict that all steps of a clip share, for what stays the same in them (``once.py``).

        Returns:
            ``[b, f, c, h, w]`` and the memory to carry on at this timestep.
        """
        b, f = latents.shape[:2]
        x = self._input(latents, guide, f_pc, kept)
        embedding = self.time_embedding(timestep_waves(timestep.reshape(-1).expand(b), self._waves).to(x.dtype))
        embedding = embedding.repeat_interleave(f, 0)
        if f_pc is not None:
            f_pc = f_pc.flatten(0, 1)
            added, f_pc = once(kept, "motion", functools.partial(self._motion, f_pc))
            if added is not None:
                embedding = embedding + F.pad(added, (0, 0, 0, len(embedding) - len(added)))
        context: dict[str, Any] = {
            "frames": f,
            "f_ac": None if f_ac is None else f_ac.flatten(0, 1),
            "f_pc": f_pc,
            "text": None if text is None else text.repeat_interleave(f, 0),
            "bypass_temporal": bypass_temporal,
            "kept": kept,
        }
        carried, new_memory = memory or {}, {}

        def attend(name: str, level: UNetLevel, j: int, x: Tensor) -> Tensor:
            if not level.has_attention or j >= len(level.attentions):
                return x
            key = f"{name}.{j}"
            x, m = level.attentions[j](x, {**context, "memory": carried.get(key)})
            if m is not None:
                new_memory[key] = m
            return x

        x = self.conv_in(x)
        skips = [x] if self.stock else []
        for i, level in enumerate(_levels_in(self.down_blocks)):
            for j, resnet in enumerate(level.resnets):
                x = attend(f"down_blocks.{i}", level, j, resnet(x, embedding))
                skips.append(x)
            if i < len(self.down_blocks) - 1:
                x = level.downsamplers[0](x)
                if self.stock:
                    skips.append(x)
        for j, resnet in enumerate(self.mid_block.resnets):
            x = attend("mid_block", self.mid_block, j, resnet(x, embedding))
        for i, level in enumerate(_levels_in(self.up_blocks)):
            for j, resnet in enumerate(level.resnets):
                x = attend(f"up_blocks.{i}", level, j, resnet(torch.cat([x, skips.pop()], 1), embedding))
            if i < len(self.up_blocks) - 1:
                x = level.upsamplers[0](x)
        x = self.conv_out(F.silu(self.conv_norm_out(x)))
        return x.unflatten(0, (b, f)), new_memory

    def _shape_maps(self, f_pc: Tensor | None, like: Tensor) -> Tensor:
        """The last tokens of ``f_pc`` drawn as maps ``[b, f, k, h, w]``, of the size of ``like``; zero without."""
        if f_pc is None:
            return like.new_zeros(*like.shape[:2], MAP_CHANNELS, *like.shape[-2:])
        maps = draw_shapes(f_pc[:, :, -SHAPE_TOKENS:].flatten(0, 1), like.shape[-1])
        maps = maps.unflatten(0, f_pc.shape[:2]).to(like.dtype)
        return F.pad(maps, (0,) * 9 + (len(like) - len(maps),))

    def _motion(self, f_pc: Tensor) -> tuple[Tensor | None, Tensor]:
        """What motion tokens ``[b f, m, dm]`` add to the time embedding, and the tokens as layer 3 reads them."""
        if self.motion_tokens is None or self.motion_embedding is None:
            return None, f_pc
        return self.motion_embedding(f_pc.flatten(1)), self.motion_tokens(f_pc)

    def _input(self, latents: Tensor, guide: Tensor | None, f_pc: Tensor | None, kept: Kept | None) -> Tensor:
        if latents.dim() != 5 or latents.shape[2] != self.config.unet.latent_channels:
            raise MCDMError(
                f"Latents have shape {tuple(latents.shape)}, expected [b, f, {self.config.unet.latent_channels}, h, w]."
            )
        if self.guide_channels:
            if guide is None or guide.shape[2] != self.guide_channels:
                given = None if guide is None else tuple(guide.shape)
                raise MCDMError(
                    f"This model needs a guide [b, f, {self.guide_channels}, h, w] made from the warped reference, "
                    f"got {given}; give landmarks, or use a model with warped_reference switched off."
                )
            latents = torch.cat([latents, guide], 2)
        if self.config.unet.shape_maps:
            maps = once(kept, "maps", functools.partial(self._shape_maps, f_pc, latents))
            latents = torch.cat([latents, maps], 2)
        x = latents.flatten(0, 1)
        return x.contiguous(memory_format=torch.channels_last) if not self.stock else x
