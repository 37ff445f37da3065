"""Pictures kept of a person, those that differ most from one another (section 3.2's archive, as pictures; C).

The archive of latents is the last clip. Who pauses for a clip has no teeth in it. A gallery is as small and forgets
nothing that is unlike the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def most_different(portraits: Tensor, pictures: Tensor, count: int) -> Tensor:
    """Up to ``count`` of the pictures, each the one furthest from the portrait and from those before it.

    Args:
        portraits: ``[v, 3, k, k]``, which are known anyway.
        pictures: ``[v, n, 3, k, k]``; of several that are alike the first is taken.

    Returns:
        ``[v, min(n, count), 3, k, k]``.

    >>> greys = torch.tensor([0.1, 0.9, 0.8, 0.5]).view(1, 4, 1, 1, 1).expand(-1, -1, 3, 4, 4)
    >>> most_different(torch.zeros(1, 3, 4, 4), greys, 2)[0, :, 0, 0, 0]
    tensor([0.9000, 0.5000])
    """
    videos, number = pictures.shape[:2]
    small = F.avg_pool2d(torch.cat([portraits[:, None], pictures], 1).flatten(0, 1).float(), 4)
    small = small.unflatten(0, (videos, number + 1)).flatten(2)
    apart = torch.cdist(small, small)
    every, nearest, picked = torch.arange(videos, device=pictures.device), apart[:, 0, 1:], []
    for _ in range(min(count, number)):
        picked.append(nearest.argmax(1))
        nearest = torch.minimum(nearest, apart[every, 1 + picked[-1], 1:])
        nearest[every, picked[-1]] = -1.0  # once is enough, also where all are alike
    return pictures[every[:, None], torch.stack(picked, 1)]
