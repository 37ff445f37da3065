"""Pictures of a clip, as the denoiser painted them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...face.part_places import PartPlaces


@dataclass(frozen=True)
class Painting:
    """Frames [f, 3, s, s] in [0, 1] on the CPU (face crops). Where parts are painted (``face/parts.py``) they are there
    as uint8 [f, p, 3, k, k], with their places in the frames where these are known. On a GPU they
    stay there, and so do frames without parts, as ``there``: finishing goes on from them."""

    frames: Tensor
    parts: Tensor | None = None
    places: PartPlaces | None = None
    there: Tensor | None = None


def to_signed(crop: Tensor) -> Tensor:
    """A crop ``[3, s, s]`` in [0, 1] as ``[1, 3, s, s]`` in [-1, 1].

    >>> to_signed(torch.tensor([0.0, 1.0]).view(1, 1, 2))
    tensor([[[[-1.,  1.]]]])
    """
    return (crop * 2 - 1)[None]


def stays(painted: Tensor) -> bool:
    """Whether pictures are finished where they were painted; only the encoder needs them on the CPU.

    Apple's GPUs lack some of what it takes.
    """
    return painted.device.type not in ("cpu", "mps")


HANDED_OVER = 16
"""Frames that are taken from a GPU at a time: a clip's."""


def handed_over(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Frames ``[1, 3, h, w]`` one by one on the CPU, taken from a GPU some at a time.

    >>> [frame.shape for frame in handed_over(iter([torch.zeros(1, 3, 2, 2)] * 2))]
    [torch.Size([1, 3, 2, 2]), torch.Size([1, 3, 2, 2])]
    """
    while some := list(itertools.islice(frames, HANDED_OVER)):
        yield from torch.cat(some).cpu().split(1)


def unit_to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as uint8, as a video stores them.

    >>> unit_to_bytes(torch.tensor([0.0, 0.5, 1.0, 1.2]))
    tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    return (frames * 255).round_().clamp_(0, 255).to(torch.uint8)
