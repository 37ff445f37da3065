"""Memory-efficient temporal attention: layer 4 of every transformer block (section 3.4, B.3).

    M_1 = F_ac_ref(1),   M_f = alpha M_{f-1} + (1 - alpha) F_ac_ref(f)
    F_m = Attention(concat_time(M, F_pc_ref)), the half of F_pc_ref kept

The recursion is linear, so the f memories are one lower-triangular f x f matrix times F_ac_ref. Only the half of
F_pc_ref is kept, so only it asks (its queries); the memory gives keys and values.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import MCDMError
from .layers.attention import CrossAttention, random_features
from .layers.feed_forward import FeedForward
from .layers.memory_attention import memory_attention, update_memory


def recursion_weights(frames: int, alpha: float, carried: bool) -> tuple[Tensor, Tensor]:
    """The recursion of equation B.3 as matrices.

    Returns:
        ``W [f, f]`` lower-triangular and ``w [f]`` with M = W F + w M_0. Without a carried M_0, M_1 = F(1), so the
        first column is alpha^i instead of (1 - alpha) alpha^i, and w is zero.

    >>> W, w = recursion_weights(3, alpha=0.5, carried=True)
    >>> W
    tensor([[0.5000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.0000],
            [0.1250, 0.2500, 0.5000]])
    >>> w
    tensor([0.5000, 0.2500, 0.1250])
    """
    index = torch.arange(frames, dtype=torch.float64, device="cpu")  # also where a model is but outlined
    base = torch.tensor(alpha, dtype=torch.float64, device="cpu")
    powers = base ** (index[:, None] - index[None, :]).clamp(min=0)
    matrix = torch.tril(powers) * (1 - alpha)
    if carried:
        return matrix.float(), (alpha ** (index + 1)).float()
    matrix[:, 0] = base**index
    return matrix.float(), torch.zeros(frames, device="cpu")


def memory_recursion(
    f_ac_ref: Tensor, alpha: float, memory: Tensor | None = None, weights: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """M of every frame.

    Args:
        f_ac_ref: ``[b, f, N, c]``.
        alpha: weight of the past, in [0, 1] (the paper: 0.1).
        memory: M of the previous clip's last frame ``[b, N, c]``, or None at the start of a video.
        weights: :func:`recursion_weights` of this length, where they are at hand on the right device.

    Returns:
        ``[b, f, N, c]``; its last frame is what the next clip carries on.

    >>> frames = torch.ones(1, 2, 1, 1)
    >>> memory_recursion(frames, 0.1, memory=torch.zeros(1, 1, 1)).flatten()
    tensor([0.9000, 0.9900])
    """
    if not 0.0 <= alpha <= 1.0:
        raise MCDMError(f"alpha is {alpha}; it weights the past and must lie in [0, 1].")
    matrix, carry = weights or recursion_weights(f_ac_ref.shape[1], alpha, memory is not None)
    result = torch.einsum("ij,bjnc->binc", matrix.to(f_ac_ref), f_ac_ref)
    if memory is not None:
        if memory.shape != f_ac_ref[:, 0].shape:
            raise MCDMError(
                f"The carried memory has shape {tuple(memory.shape)}, expected {tuple(f_ac_ref[:, 0].shape)}: it "
                "belongs to another model or image size. Start a new memory."
            )
        result = result + carry.to(f_ac_ref)[None, :, None, None] * memory.to(f_ac_ref)[:, None]
    return result


class SinusoidalPositions(nn.Module):
    """AnimateDiff's positions along time, kept under its key ``pe`` ``[1, length, c]``."""

    pe: Tensor

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        # On the CPU also where a model is but outlined on the meta device (model.py).
        position = torch.arange(length, device="cpu").unsqueeze(1)
        rates = torch.exp(torch.arange(0, dim, 2, device="cpu") * (-math.log(10_000.0) / dim))
        pe = torch.zeros(1, length, dim)
        pe[0, :, 0::2] = torch.sin(position * rates)
        pe[0, :, 1::2] = torch.cos(position * rates)
        self.register_buffer("pe", pe)


class TemporalBlock(nn.Module):
    """Attention along time, once or twice, and optionally a feed-forward; key names of AnimateDiff's block."""

    def __init__(self, dim: int, heads: int, length: int, *, attentions: int, feed_forward: bool) -> None:
        super().__init__()
        self.pos_embed = SinusoidalPositions(dim, length)
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = CrossAttention(dim, heads)
        self.twice = attentions == 2
        if self.twice:
            self.norm2 = nn.LayerNorm(dim)
            self.attn2 = CrossAttention(dim, heads)
        self.ff: nn.Module | None = None
        if feed_forward:
            self.norm3 = nn.LayerNorm(dim)
            self.ff = FeedForward(dim)

    def forward(self, x: Tensor, memory: Tensor | None, features: Tensor | None, kernels: bool = False) -> Tensor:
        """``x [B, f, c]``, ``memory [B, f', c]`` -> ``[B, f, c]``. The memory is read, never changed.

        The memory comes first in time: positions 0 .. f'-1, the clip's f' .. f'+f-1 (0 .. f-1 without a memory).
        """
        behind = 0 if memory is None else memory.shape[1]
        total = behind + x.shape[1]
        if total > self.pos_embed.pe.shape[1]:
            raise MCDMError(
                f"Temporal attention over {total} frames (memory and clip), but it has positions for "
                f"{self.pos_embed.pe.shape[1]}; use shorter clips."
            )
        positions = self.pos_embed.pe.to(x)
        pairs = [(self.norm1, self.attn1)] + ([(self.norm2, self.attn2)] if self.twice else [])
        for norm, attention in pairs:
            y = norm(x) + positions[:, behind:total]
            before = None if memory is None else norm(memory) + positions[:, :behind]
            if kernels and before is not None and features is None:
                past, own = ((attention.to_k(of), attention.to_v(of)) for of in (before, y))
                attended = memory_attention(attention.to_q(y), past, own, attention.heads, kernel=True)
                x = x + attention.to_out[0](attended)
            else:
                x = x + attention(y, y if before is None else torch.cat([before, y], 1), features)
        if self.ff is not None:
            x = x + self.ff(self.norm3(x))
        return x


class MemoryEfficientTemporalAttention(nn.Module):
    """Layer 4: the clip looks back at its motion memory, per spatial position.

    Args:
        dim: channels c; motion_module: keep AnimateDiff's whole shape (normalisation over groups, two projections, two
            attentions, a feed-forward), so that its weights load. Otherwise there is one attention only.
        length: positions in time, 2 f (32 in the paper and in AnimateDiff v2).
        features: random features of FAVOR+; used when :attr:`kind` is ``"favor"``.

    Attributes:
        kernels: whether Triton's kernels compute, where the attention is exact.
    """

    random_features: Tensor
    recursion: Tensor
    kernels: bool = False

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        alpha: float = 0.1,
        length: int = 32,
        kind: str = "exact",
        features: int = 256,
        norm_groups: int = 32,
        motion_module: bool = True,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.kind = kind
        self.norm = nn.GroupNorm(norm_groups, dim, eps=1e-6) if motion_module else None
        self.proj_in = nn.Linear(dim, dim) if motion_module else None
        attentions = 2 if motion_module else 1
        block = TemporalBlock(dim, heads, length, attentions=attentions, feed_forward=motion_module)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        # Not a weight: both kinds of attention share one set of weights, so these are drawn, not stored.
        self.register_buffer("random_features", random_features(features, dim // heads), persistent=False)
        # The recursion's weights, without and with a carried M, kept on the device: a copy for every call would make
        # the host wait for the GPU. The first frames' rows are those of a shorter clip.
        matrices, carries = zip(
            *(recursion_weights(length // 2, alpha, carried) for carried in (False, True)), strict=True
        )
        weights = torch.cat([torch.stack(matrices), torch.stack(carries)[..., None]], -1)
        self.register_buffer("recursion", weights, persistent=False)

    def _recursion_weights(self, frames: int, carried: bool) -> tuple[Tensor, Tensor] | None:
        """:func:`recursion_weights` of a clip; None if it is longer than this layer has positions for."""
        weights = self.recursion[int(carried), :frames]
        return (weights[:, :frames], weights[:, -1]) if len(weights) == frames else None

    def _enter(self, x: Tensor) -> Tensor:
        """``[b, f, N, c]`` -> series per position ``[b N, f, c]``, normalised and projected.

        Memory and clip are normalised apart: else the memory would reach the clip through the statistics.
        """
        f = x.shape[1]
        if self.norm is not None:
            normed = self.norm(rearrange(x, "b f n c -> b c (f n)"))
            x = rearrange(normed, "b c (f n) -> b f n c", f=f)
        x = rearrange(x, "b f n c -> (b n) f c")
        return x if self.proj_in is None else self.proj_in(x)

    def forward(
        self, f_ac_ref: Tensor | None, f_pc_ref: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over concat(M, F_pc_ref) and keep the half of F_pc_ref.

        Args:
            f_ac_ref: ``[b, f, N, c]``, or None to attend over the clip alone (an AnimateDiff motion module).
            f_pc_ref: ``[b, f, N, c]``.
            memory: M carried from the previous clip ``[b, N, c]``.

        Returns:
            F_m ``[b, f, N, c]`` (on F_pc_ref's residual) and the M to carry on ``[b, N, c]`` (None without F_ac_ref).
        """
        past = None
        if f_ac_ref is not None and self.kernels:
            past = update_memory(f_ac_ref, self.alpha, memory)
        elif f_ac_ref is not None:
            weights = self._recursion_weights(f_ac_ref.shape[1], memory is not None)
            past = memory_recursion(f_ac_ref, self.alpha, memory, weights)
        features = self.random_features if self.kind == "favor" else None
        context = None if past is None else self._enter(past)
        y = self._enter(f_pc_ref)
        z = self.transformer_blocks[0](y, context, features, self.kernels)
        # Without a projection on the way in, the block's own residual is the clip itself: leave it out.
        z = self.proj_out(z if self.proj_in is not None else z - y)
        result = f_pc_ref + rearrange(z, "(b n) f c -> b f n c", b=len(f_pc_ref))
        return result, None if past is None else past[:, -1]
