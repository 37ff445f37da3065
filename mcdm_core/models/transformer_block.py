"""One transformer block of the denoising UNet: the paper's four attention layers (section 3.1).

    y        = x + SelfAttention(x)                     layer 1, as in Stable Diffusion 1.5
    F_ac_ref = y + CrossAttention(y, F_ac)              layer 2, archived-clip reference attention
    F_pc_ref = y + CrossAttention(y, F_pc)              layer 3, present-clip reference attention, parallel to 2
    z        = TemporalAttention(F_ac_ref, F_pc_ref, M) layer 4
    out      = z + FeedForward(z)                       Stable Diffusion's

Layers 2 to 4 end in projections that start at zero, so with them untrained the block is Stable Diffusion's. Stable
Diffusion's text cross-attention has no place in the paper. With ``text_dim`` it stays, between layer 1 and the parallel
pair. It is used only when text tokens are given (those of the empty prompt, as a rule).
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .archived_clip_prior import ArchivePlaces
from .layers.attention import CrossAttention
from .layers.feed_forward import FeedForward
from .layers.once import Kept
from .temporal_attention import MemoryEfficientTemporalAttention


class MCDMTransformerBlock(nn.Module):
    """Width c, N spatial positions. ``norm1, attn1, norm2, attn2, norm3, ff`` carry Stable Diffusion's names."""

    def __init__(
        self,
        dim: int,
        heads: int,
        archived_dim: int,
        present_dim: int,
        *,
        text_dim: int | None = None,
        ff_mult: float = 4.0,
        activation: str = "geglu",
        temporal: dict[str, Any] | None = None,
        archive_places: ArchivePlaces | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim) if text_dim else None
        self.attn2 = CrossAttention(dim, heads, text_dim) if text_dim else None
        self.archived_norm = nn.LayerNorm(dim)
        self.archived_attn = CrossAttention(dim, heads, archived_dim, zero=True)
        self.archive_places = archive_places
        self.present_norm = nn.LayerNorm(dim)
        self.present_attn = CrossAttention(dim, heads, present_dim, zero=True)
        self.temporal = MemoryEfficientTemporalAttention(dim, heads, **(temporal or {}))
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, ff_mult, activation)

    def forward(
        self,
        x: Tensor,
        frames: int,
        f_ac: Tensor | None,
        f_pc: Tensor | None,
        memory: Tensor | None = None,
        text: Tensor | None = None,
        bypass_temporal: bool = False,
        kept: Kept | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the block on the frames of b clips.

        Args:
            x: ``[b f, N, c]``.
            frames: f.
            f_ac: archived tokens ``[b f, n, d]``; frame j of the clip reads archived frame j. None: no layer 2,
                and layer 4 attends over the clip alone.
            f_pc: motion tokens ``[b f, m, dm]``, or None (no layer 3). Where they are of fewer clips, they are of the
                first ones, and the others have no layer 3.
            memory: carried M ``[b, N, c]``.
            text: ``[b f, k, text_dim]``, only with ``text_dim``.
            bypass_temporal: leave layer 4 out and add what layer 2 found to the residual directly. Stage 1 trains
                so: F_ac_ref has no other way to the output, and layer 2 would have no gradient.
            kept: keys and values of layers 2 and 3, through the steps of a clip.

        Returns:
            ``[b f, N, c]`` and the new memory ``[b, N, c]`` (None without F_ac or layer 4).
        """
        y = x + self.attn1(self.norm1(x))
        if text is not None and self.attn2 is not None and self.norm2 is not None:
            y = y + self.attn2(self.norm2(y), text)
        places = None if self.archive_places is None else self.archive_places()
        archived = None if f_ac is None else self.archived_attn(self.archived_norm(y), f_ac, places=places, kept=kept)
        z = y
        if f_pc is not None:
            told, untold = y[: len(f_pc)], y[len(f_pc) :]
            z = told + self.present_attn(self.present_norm(told), f_pc, kept=kept)
            z = torch.cat([z, untold]) if len(untold) else z
        new_memory = None
        if not bypass_temporal:
            f_ac_ref = None if archived is None else rearrange(y + archived, "(b f) n c -> b f n c", f=frames)
            z, new_memory = self.temporal(f_ac_ref, rearrange(z, "(b f) n c -> b f n c", f=frames), memory)
            z = rearrange(z, "b f n c -> (b f) n c")
        elif archived is not None:
            z = z + archived
        return z + self.ff(self.norm3(z)), new_memory
