"""Layer 4's Triton kernels; what they compute is said in ``memory_attention.py`` and ``temporal_attention.py``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A kernel is compiled from its source: its annotations are no types.
# pyright: reportInvalidTypeForm=false

_BLOCK = 1024


@triton.jit
def _attend(query, past_key, past_value, key, value, out, heads, frames, past, own, width, scale,
            FRAMES: tl.constexpr, PAST: tl.constexpr, OWN: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """One head of one series: its queries over memory and clip, under one softmax."""
    series, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i, p, k, d = tl.arange(0, FRAMES), tl.arange(0, PAST), tl.arange(0, OWN), tl.arange(0, WIDTH)
    row, across = heads * width, head * width + d[None, :]
    of_query = (series * frames + i[:, None]) * row + across
    of_past = (series * past + p[:, None]) * row + across
    of_own = (series * own + k[:, None]) * row + across
    here, there, now = (i[:, None] < frames), (p[:, None] < past), (k[:, None] < own)
    inside = d[None, :] < width
    q = tl.load(query + of_query, mask=here & inside, other=0.0)
    before = tl.load(past_key + of_past, mask=there & inside, other=0.0)
    after = tl.load(key + of_own, mask=now & inside, other=0.0)
    a = tl.dot(q, tl.trans(before), input_precision="ieee") * scale
    b = tl.dot(q, tl.trans(after), input_precision="ieee") * scale
    a = tl.where(p[None, :] < past, a, float("-inf"))
    b = tl.where(k[None, :] < own, b, float("-inf"))
    most = tl.maximum(tl.max(a, 1), tl.max(b, 1))[:, None]
    a, b = tl.exp(a - most), tl.exp(b - most)
    whole = (tl.sum(a, 1) + tl.sum(b, 1))[:, None]
    before = tl.load(past_value + of_past, mask=there & inside, other=0.0)
    after = tl.load(value + of_own, mask=now & inside, other=0.0)
    seen = tl.dot(a.to(before.dtype), before, input_precision="ieee")
    seen += tl.dot(b.to(after.dtype), after, input_precision="ieee")
    tl.store(out + of_query, (seen / whole).to(out.dtype.element_ty), mask=here & inside)


@triton.jit
def _update(frames, memory, out, alpha, count, size, CARRIED: tl.constexpr, BLOCK: tl.constexpr):
    """A block of one clip's values through all of its frames."""
    clip = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    here = clip * count * size + at
    if CARRIED:
        kept = tl.load(memory + clip * size + at, mask=inside, other=0.0).to(tl.float32)
    else:
        kept = tl.load(frames + here, mask=inside, other=0.0).to(tl.float32)
    for _ in range(count):
        new = tl.load(frames + here, mask=inside, other=0.0).to(tl.float32)
        # Without a carried memory the first frame is it: kept and new are the same there.
        kept = alpha * kept + (1 - alpha) * new
        tl.store(out + here, kept.to(out.dtype.element_ty), mask=inside)
        here += size


def attend(query: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], heads: int) -> Tensor:
    """See :func:`~.memory_attention.memory_attention`."""
    series, frames, channels = query.shape
    width = channels // heads
    given = [x.contiguous() for x in (query, *past, *own)]
    out = torch.empty_like(given[0])
    lengths = frames, past[0].shape[1], own[0].shape[1]
    sides = [max(16, triton.next_power_of_2(n)) for n in (*lengths, width)]
    _attend[(series, heads)](*given, out, heads, *lengths, width, width**-0.5, *sides)
    return out


def update(frames: Tensor, alpha: float, memory: Tensor | None) -> Tensor:
    """See :func:`~.memory_attention.update_memory`."""
    frames = frames.contiguous()
    clips, count = frames.shape[:2]
    size = frames[0, 0].numel()
    out = torch.empty_like(frames)
    carried = frames if memory is None else memory.contiguous()
    grid = triton.cdiv(size, _BLOCK), clips
    _update[grid](frames, carried, out, alpha, count, size, memory is not None, _BLOCK)
    return out
