"""What was seen of a person beside the portrait: the pictures that differ most (section 3.2's archive, as pictures; C).

The archive of latents is the last clip. Who pauses for a clip has no teeth in it. A gallery is as small, and stays.
What the model has painted does not come in: it knows nothing of the person that the model did not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Gallery:
    """Pictures of each part, and the contours in them.

    Attributes:
        pictures: ``[v, n, 3, k, k]``; shapes: contours ``[v, n, w]`` (``face/part_shapes.py``).
    """

    pictures: Tensor
    shapes: Tensor

    @classmethod
    def of_portraits(cls, portraits: Tensor, shapes: Tensor) -> Gallery:
        """Of the portraits alone, ``[v, 3, k, k]``, with their contours ``[v, w]``.

        >>> Gallery.of_portraits(torch.zeros(2, 3, 4, 4), torch.zeros(2, 48)).pictures.shape
        torch.Size([2, 1, 3, 4, 4])
        """
        return cls(portraits[:, None], shapes[:, None])

    def joined(self, other: Gallery) -> Gallery:
        """The pictures of both."""
        pictures = torch.cat([self.pictures, other.pictures], 1)
        return Gallery(pictures, torch.cat([self.shapes, other.shapes], 1))

    def but(self, which: Tensor, portraits: Gallery) -> Gallery:
        """Of the videos ``which [v]`` the portrait alone, ``[v, 1, ...]``, as often as there were pictures."""
        pictures = torch.where(which.view(-1, 1, 1, 1, 1), portraits.pictures, self.pictures)
        return Gallery(pictures, torch.where(which.view(-1, 1, 1), portraits.shapes, self.shapes))

    def most_different(self, portraits: Tensor, count: int) -> Gallery:
        """Up to ``count`` of them, each the one furthest from the portrait and from those before it.

        Of several that are alike the first is taken.

        Args:
            portraits: ``[v, 3, k, k]``, which are known anyway.

        >>> greys = torch.tensor([0.1, 0.9, 0.8, 0.5]).view(1, 4, 1, 1, 1).expand(-1, -1, 3, 4, 4)
        >>> kept = Gallery(greys, torch.zeros(1, 4, 48)).most_different(torch.zeros(1, 3, 4, 4), 2)
        >>> kept.pictures[0, :, 0, 0, 0]
        tensor([0.9000, 0.5000])
        """
        videos, number = self.pictures.shape[:2]
        small = F.avg_pool2d(torch.cat([portraits[:, None], self.pictures], 1).flatten(0, 1).float(), 4)
        small = small.unflatten(0, (videos, number + 1)).flatten(2)
        apart = torch.cdist(small, small)
        every, nearest, picked = torch.arange(videos, device=small.device), apart[:, 0, 1:], []
        for _ in range(min(count, number)):
            picked.append(nearest.argmax(1))
            nearest = torch.minimum(nearest, apart[every, 1 + picked[-1], 1:])
            nearest[every, picked[-1]] = -1.0  # once is enough, also where all are alike
        kept = every[:, None], torch.stack(picked, 1)
        return Gallery(self.pictures[kept], self.shapes[kept])
