"""Attention of a clip over its memory and itself, and the memory's update: in PyTorch, and by Triton's kernels.

The kernels (``memory_kernels.py``) never write the concatenation of memory and clip, nor heads in an order of their
own. Between the update and the attention stand normalisations over all positions and projections. So these are two
kernels, not one. They are used where they are measured to be faster (``pipeline/run/gpu.py``), and nowhere else.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def kernels_available() -> bool:
    """Whether Triton is installed.

    >>> kernels_available() in (True, False)
    True
    """
    return importlib.util.find_spec("triton") is not None


def memory_attention(
    query: Tensor, past: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], heads: int, *, kernel: bool = False
) -> Tensor:
    """Softmax attention over two groups of keys and values.

    Args:
        query: ``[s, f, c]``; past, own: keys and values ``[s, p, c]`` and ``[s, k, c]``.
        kernel: by Triton.

    Returns:
        ``[s, f, c]``.

    >>> one = torch.ones(1, 2, 4)
    >>> memory_attention(one, (one, one), (one, 3 * one), heads=2)[0, 0]
    tensor([2., 2., 2., 2.])
    """
    if kernel:
        from .memory_kernels import attend

        return attend(query, past, own, heads)
    key, value = (torch.cat(pair, 1) for pair in zip(past, own, strict=True))
    q, k, v = (rearrange(x, "s l (heads d) -> s heads l d", heads=heads) for x in (query, key, value))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "s heads l d -> s l (heads d)")


def update_memory(frames: Tensor, alpha: float, memory: Tensor | None) -> Tensor:
    """The recursion of equation B.3 by Triton, in one pass over the frames.

    Args:
        frames: F_ac_ref ``[b, f, n, c]``; alpha: weight of the past; memory: carried M ``[b, n, c]`` or None.

    Returns:
        M of every frame ``[b, f, n, c]``.
    """
    from .memory_kernels import update

    return update(frames, alpha, memory)
