"""Diffusion loss of the present-clip prior and augmentation of its sound (paper 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.present_clip_prior import PresentClipPrior


def diffusion_loss(
    prior: PresentClipPrior,
    clean: Tensor,
    head_given: Tensor,
    generator: torch.Generator | None = None,
    **conditions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """MSE to the added noise over alpha squared, on the motion tokens alone, landmarks dropped per sample.

    Dividing by the squared signal gives every noise level the same say; for an untrained model the loss is about 1.

    Args:
        clean: ``[b, f, nq, dm]``; head_given: boolean ``[b]``, True where the driver's landmarks are not dropped.
        conditions: ``audio``, ``image``, ``context``, ``context_audio``, ``drop_audio`` of the forward pass.

    Returns:
        The loss (scalar), the estimate of the clean tokens ``[b, f, nq, dm]`` and the signal alpha ``[b]``.
    """
    batch, number = len(clean), prior.head_tokens
    time = torch.randint(len(prior.signal), (batch,), generator=generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    signal = prior.signal[time][:, None, None, None].to(clean)
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    noisy = alpha * clean + sigma * noise
    out = prior(noisy, time, head=clean[:, :, :number], head_given=head_given, **conditions)
    if prior.config.present_clip_prior.prediction_type == "epsilon":
        velocity = (out - sigma * noisy) / alpha.clamp_min(1e-4)
    else:
        velocity = out
    target = alpha * noise - sigma * clean
    weight = torch.ones(batch, 1, clean.shape[2], 1, device=clean.device, dtype=clean.dtype)
    weight[:, :, :number] = (~head_given)[:, None, None, None].to(clean)
    error = (velocity - target).square() * weight
    estimate = alpha * noisy - sigma * velocity
    return error.sum() / (weight.sum() * clean.shape[1] * clean.shape[3]), estimate, alpha.flatten()


def resample_clip(sequence: Tensor, positions: Tensor) -> Tensor:
    """Linear interpolation of ``sequence [t, ...]`` at real ``positions [n]``; beyond the ends the end's value."""
    positions = positions.clamp(0, len(sequence) - 1)
    low = positions.floor().long()
    high = (low + 1).clamp_max(len(sequence) - 1)
    weight = (positions - low).to(sequence.dtype).view(-1, *[1] * (sequence.dim() - 1))
    return torch.lerp(sequence[low], sequence[high], weight)


def window_positions(positions: Tensor, speed: float, width: int, mel_rate: float, fps: float) -> Tensor:
    """Mel positions ``[n, width]`` of the windows centred on frames at ``positions [n]``, stretched by ``speed``."""
    centre = (positions + 0.5) * (mel_rate / fps)
    return centre[:, None] + (torch.arange(width) - width / 2) * speed


def augment_mels(mels: Tensor, random: torch.Generator) -> Tensor:
    """Make another voice, microphone and room of log-mels ``[m, j]`` (natural log power): same size.

    Formants shifted by up to 18 %, a smooth random equaliser of up to about 10 dB, coloured noise down to about 6 dB
    below the speech's loud level. A change of the level alone would be undone by the normalisation.
    """
    number = mels.shape[0]

    def uniform(low: float, high: float) -> float:
        return float(torch.rand((), generator=random)) * (high - low) + low

    if uniform(0, 1) < 0.7:
        ratio = math.exp(uniform(-0.17, 0.17))
        mels = resample_clip(mels, torch.arange(number) * ratio + uniform(-1.5, 1.5))
    axis = torch.linspace(0, math.pi, number)
    if uniform(0, 1) < 0.8:
        curve = sum(uniform(-1.0, 1.0) / k**0.5 * torch.cos(k * axis + uniform(0, math.pi)) for k in range(1, 5))
        mels = mels + (curve * uniform(0.0, 1.3))[:, None]
    if uniform(0, 1) < 0.7:
        level = torch.quantile(torch.logsumexp(mels, dim=0), 0.95) - math.log(number)
        tilt = uniform(-2.0, 1.0) * torch.linspace(0, 1, number)
        noise = level + uniform(-8.0, -1.5) + tilt[:, None] + 0.5 * torch.randn(mels.shape, generator=random)
        mels = torch.logaddexp(mels, noise)
    return mels


def lip_readout(tokens: Tensor, values: Tensor) -> Tensor:
    """Least-squares map from lip tokens to lip values.

    Args:
        tokens: ``[n, nl * dm]``; values: ``[n, v]``.

    Returns:
        ``[nl * dm, v]``, with light ridge regularisation. It weighs errors of the tokens by what shows on the lips.
    """
    tokens, values = tokens - tokens.mean(0), values - values.mean(0)
    gram = tokens.T @ tokens + 1e-2 * len(tokens) * torch.eye(tokens.shape[1])
    return torch.linalg.solve(gram, tokens.T @ values)


def readout_loss(estimate: Tensor, clean: Tensor, readout: Tensor, lips: slice) -> Tensor:
    """Squared error of the lip values read linearly off estimated and true tokens.

    Args:
        estimate, clean: ``[b, f, nq, dm]``; readout: ``[nl * dm, v]``; lips: token slice.

    Returns:
        Scalar; samples count alike at all noise levels (the estimate is of the clean tokens, bounded).
    """
    error = ((estimate - clean)[:, :, lips].flatten(2) @ readout).square()
    return error.mean()


def auxiliary_value_loss(predicted: Tensor, values: Tensor) -> Tensor:
    """Smooth L1 of the four lip values ``[..., 16]`` read from the audio tokens; the opening counts fourfold."""
    weight = torch.tensor([4.0, 2.0, 1.0, 1.0], device=values.device)
    error = F.smooth_l1_loss(predicted[..., :4], values[..., :4], beta=0.1, reduction="none")
    return (error * weight).mean()
