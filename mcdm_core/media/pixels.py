"""Bytes of pictures to the models' range and back."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 pixels of any layout to float in [-1, 1], same layout.

    >>> to_unit(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    return pixels.float() / 127.5 - 1.0


def to_bytes(pictures: Tensor) -> Tensor:
    """Float in [-1, 1] (what is beyond is cut) to the nearest uint8, same layout; the inverse of :func:`to_unit`.

    >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0, 3.0]))
    tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()


def frames_to_unit(frames: NDArray[np.uint8]) -> Tensor:
    """Pictures as they are read, uint8 ``[..., h, w, 3]``, to ``[..., 3, h, w]`` in [-1, 1].

    >>> frames_to_unit(np.zeros((2, 4, 6, 3), np.uint8)).shape
    torch.Size([2, 3, 4, 6])
    """
    return to_unit(rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "... h w c -> ... c h w"))


def unit_to_frames(pictures: Tensor) -> NDArray[np.uint8]:
    """``[..., 3, h, w]`` in [-1, 1] to uint8 ``[..., h, w, 3]``.

    >>> unit_to_frames(torch.zeros(2, 3, 4, 6)).shape
    (2, 4, 6, 3)
    """
    return rearrange(to_bytes(pictures), "... c h w -> ... h w c").contiguous().numpy()


def picture_planes(pixels: NDArray[np.uint8]) -> Tensor:
    """A picture as it is read, uint8 ``[h, w, c]``, to ``[c, h, w]`` in [0, 1].

    >>> picture_planes(np.full((4, 6, 3), 255, np.uint8)).mean()
    tensor(1.)
    """
    return rearrange(torch.from_numpy(np.ascontiguousarray(pixels)), "h w c -> c h w").float() / 255


def luminance(pictures: Tensor) -> Tensor:
    """Lightness (Rec. 601) of RGB pictures: ``[..., 3, h, w] -> [..., h, w]`` in the same range.

    >>> luminance(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1))
    tensor([[0.2990]])
    """
    return torch.einsum("...chw,c->...hw", pictures, pictures.new_tensor((0.299, 0.587, 0.114)))
