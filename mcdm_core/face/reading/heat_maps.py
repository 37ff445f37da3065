"""Points out of heat maps."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_argmax(heat: Tensor) -> Tensor:
    """Mean position under the softmax of heat maps: ``[b, k, h, w]`` logits to ``[b, k, 2]`` (x, y) in [0, 1].

    >>> heat = torch.zeros(1, 1, 4, 4)
    >>> heat[0, 0, 3, 0] = 50.0  # the lowest cell at the left
    >>> soft_argmax(heat)
    tensor([[[0.1250, 0.8750]]])
    """
    height, width = heat.shape[-2:]
    weights = heat.flatten(2).softmax(-1).unflatten(2, (height, width))
    xs = (torch.arange(width, device=heat.device, dtype=heat.dtype) + 0.5) / width
    ys = (torch.arange(height, device=heat.device, dtype=heat.dtype) + 0.5) / height
    return torch.stack([(weights.sum(2) * xs).sum(-1), (weights.sum(3) * ys).sum(-1)], -1)
