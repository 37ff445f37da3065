"""The noise of motion diffusion: its likeness from frame to frame and its strength by stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...config import MotionCodecConfig


def by_stream(three: tuple[float, float, float], codec: MotionCodecConfig) -> Tensor:
    """A number each for head, lip and expression as ``[nq, 1]``, one for each token of a frame.

    >>> by_stream((1.0, 0.0, 0.5), MotionCodecConfig(head_tokens=1, lip_tokens=2, expression_tokens=1)).flatten()
    tensor([1.0000, 0.0000, 0.0000, 0.5000])
    """
    sizes = (codec.head_tokens, codec.lip_tokens, codec.expression_tokens)
    values = [v for v, size in zip(three, sizes, strict=True) for _ in range(size)]
    return torch.tensor(values, device="cpu").float()[:, None]


def motion_noise(
    shape: Sequence[int],
    correlation: Tensor,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Unit noise ``[b, f, nq, dm]`` in float32, in which a frame is like the one before it.

    A head is never in two places in two frames. Noise that is independent in every frame has to be smoothed away in
    sampling, and few steps leave jitter. Correlated noise of unit variance in every frame leaves slow movement instead.
    Where the correlation is 0 it is the paper's white noise.

    Args:
        shape: ``(b, f, nq, dm)``; correlation: ``[nq, 1]`` in [0, 1), from one frame to the next.
            Frames k apart are correlated by its power k squared: a movement without corners. (By its power k, heads of
            the same speed trembled. A third of their way was lost in a mean over five frames, of people's a sixth.)
    """
    white = torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device=device)
    if not correlation.any():
        return white
    frame = torch.arange(white.shape[1], dtype=torch.float64)
    covariance = correlation.double().cpu().clamp_min(1e-9)[:, :, None] ** (frame[:, None] - frame).square()
    # A hundredth of a percent of white noise, without which the smooth one could not be factored.
    mixing = torch.linalg.cholesky((covariance + 1e-4 * torch.eye(len(frame))) / (1 + 1e-4)).to(white)
    return torch.einsum("njk,bknd->bjnd", mixing, white)
