"""Diffusion loss of the present-clip prior and augmentation of its sound (paper 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.landmarks import BLINK_VALUES, constant
from ...models.inputs.motion_noise import motion_noise
from ...models.present_clip_prior import PresentClipPrior
from ..ridge import ridge_solution

LIP_WEIGHTS = (4.0, 3.0, 2.0, 2.0)
"""Weights of opening, width, protrusion and press in the losses of the lips' values."""
_BLINK_WEIGHT, _OTHER_WEIGHT = 4.0, 0.1
READOUT_WEIGHT = 10.0
"""Of the lips' values read off estimated motion, beside the diffusion's loss."""


def diffusion_loss(
    prior: PresentClipPrior,
    clean: Tensor,
    head_given: Tensor,
    generator: torch.Generator | None = None,
    **conditions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """MSE to the added noise over alpha squared, on the motion tokens alone, landmarks dropped per sample.

    Dividing by the squared signal gives every noise level the same say; for an untrained model the loss is about 1.
    Where the prior has a fitted variance, frames and features count by the inverse of its root.

    Args:
        clean: ``[b, f, nq, dm]``; head_given: boolean ``[b]``, True where the driver's landmarks are not dropped.
        conditions: ``audio``, ``image``, ``context``, ``context_audio``, ``drop_audio`` of the forward pass.

    Returns:
        The loss (scalar), the estimate of the clean tokens ``[b, f, nq, dm]`` and the signal alpha ``[b]``.
    """
    batch = len(clean)
    time = torch.randint(len(prior.alphas_cumprod), (batch,), generator=generator, device=clean.device)
    noise = motion_noise(clean.shape, prior.correlation, generator, clean.device).to(clean)
    error, weight, estimate, alpha = noised_error(prior, clean, head_given, time, noise, **conditions)
    return error.sum() / weight.expand_as(error).sum(), estimate, alpha


def noised_error(
    prior: PresentClipPrior,
    clean: Tensor,
    head_given: Tensor,
    time: Tensor,
    noise: Tensor,
    **conditions: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted squared errors of :func:`diffusion_loss` under given noise.

    Args:
        time: timesteps ``[b]``; noise: as ``clean [b, f, nq, dm]``. See :func:`diffusion_loss` for the others.

    Returns:
        Errors ``[b, f, nq, dm]``, their weights broadcastable to them, the estimate and the signal alpha ``[b]``.
    """
    batch, number = len(clean), prior.head_tokens
    alpha, sigma = prior.alpha_sigma(time, clean)
    noisy = alpha * clean + sigma * noise
    out = prior(noisy, time, head=clean[:, :, :number], head_given=head_given, **conditions)
    estimate = prior.denoised(out, noisy, time)
    target = alpha * noise - sigma * clean
    weight = torch.ones(batch, 1, clean.shape[2], 1, device=clean.device, dtype=clean.dtype)
    weight[:, :, :number] = (~head_given)[:, None, None, None].to(clean)
    if prior.variance is not None:
        # The first frames after the known ones and the head's are told more exactly: their errors count for more.
        weight = weight * (prior.variance.mean() / prior.variance[: clean.shape[1]]).sqrt()
    error = ((alpha * noisy - estimate) / sigma - target).square() * weight
    return error, weight, estimate, alpha.flatten()


def interpolate(x: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Linear interpolation of every sample at places of its own.

    Args:
        x: ``[b, m, j]``; positions: ``[b, n]``, real, along ``dim``; dim: -2 or -1.

    Returns:
        ``[b, n, j]`` or ``[b, m, n]``; beyond the ends the end's value.
    """
    positions = positions.clamp(0, x.shape[dim] - 1)
    low = positions.floor().long()
    weight = positions - low
    high = (low + 1).clamp_max(x.shape[dim] - 1)

    def pick(index: Tensor) -> Tensor:
        wide = index[:, None].expand(-1, x.shape[1], -1) if dim == -1 else index[:, :, None].expand(-1, -1, x.shape[2])
        return x.gather(dim, wide)

    return torch.lerp(pick(low), pick(high), weight[:, None] if dim == -1 else weight[:, :, None])


def augment_mels(mels: Tensor, random: torch.Generator) -> Tensor:
    """Make other voices, microphones and rooms of utterances' log-mels ``[b, m, j]`` (natural log power): same size.

    Formants and pitch are shifted by up to 18 %. A smooth random equaliser changes up to about 10 dB. Coloured noise
    comes within about 6 dB of the speech's loud level. A band of up to a sixth of the bins is silenced (SpecAugment,
    Park et al. 2019). Each happens in a part of the samples. A change of the level alone would be undone by the
    normalisation.
    """
    batch, number, _ = mels.shape
    device = mels.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(batch, 1, generator=random, device=device) * (high - low) + low

    def some(share: float) -> Tensor:
        return (torch.rand(batch, 1, generator=random, device=device) < share).to(mels.dtype)

    warped = some(0.8)
    bins = torch.arange(number, device=device) * torch.exp(warped * uniform(-0.17, 0.17)) + warped * uniform(-1.5, 1.5)
    mels = interpolate(mels, bins, -2)
    axis = torch.linspace(0, math.pi, number, device=device)
    curve = sum(uniform(-1.0, 1.0) / k**0.5 * torch.cos(k * axis + uniform(0, math.pi)) for k in range(1, 5))
    mels = mels + (curve * uniform(0.0, 1.3) * some(0.8))[:, :, None]
    level = torch.quantile(torch.logsumexp(mels, dim=1), 0.95, dim=-1, keepdim=True) - math.log(number)
    colour = level + uniform(-8.0, -1.5) + uniform(-2.0, 1.0) * torch.linspace(0, 1, number, device=device)
    noise = colour[:, :, None] + 0.5 * torch.randn(mels.shape, generator=random, device=device)
    mels = torch.where(some(0.7)[:, :, None] > 0, torch.logaddexp(mels, noise), mels)
    width, start = uniform(0, number / 6), uniform(-number / 6, number)
    place = torch.arange(number, device=device) - start
    masked = (place >= 0) & (place < width) & (some(0.6) > 0)
    return torch.where(masked[:, :, None], mels.amin(dim=(1, 2), keepdim=True), mels)


def lip_readout(tokens: Tensor, values: Tensor) -> Tensor:
    """Least-squares map from lip tokens to lip values.

    Args:
        tokens: ``[n, nl * dm]``; values: ``[n, v]``.

    Returns:
        ``[nl * dm, v]``, with light ridge regularisation. It weighs errors of the tokens by what shows on the lips.
    """
    return ridge_solution(tokens - tokens.mean(0), values - values.mean(0), 1e-2 * len(tokens))


def readout_loss(estimate: Tensor, clean: Tensor, readout: Tensor, lips: slice) -> Tensor:
    """Squared error of the lip values read linearly off estimated and true tokens.

    Args:
        estimate, clean: ``[b, f, nq, dm]``; readout: ``[nl * dm, v]``; lips: token slice.

    Returns:
        Scalar; samples count alike at all noise levels (the estimate is of the clean tokens, bounded).
    """
    error = ((estimate - clean)[:, :, lips].flatten(2) @ readout).square()
    return error.mean()


def auxiliary_value_loss(predicted: Tensor, values: Tensor, inside: Tensor | None = None) -> Tensor:
    """Error of the values ``[..., 16]`` read from the audio tokens.

    Smooth L1 of the lips' four, the opening fourfold, and the blinks' error squared. A little of the others is in it
    too, so that the tokens tell of brows and smiles what the sound does. People blink in most pauses, but not in all.
    Of what is so often, not always, the squared error learns the mean. An absolute one would learn that eyes stay open.

    ``inside [...]`` is True where there is a frame; None means everywhere.
    """
    others = values.shape[-1] - len(LIP_WEIGHTS)
    weight = constant(LIP_WEIGHTS + (_OTHER_WEIGHT,) * others, values.device)
    error = (F.smooth_l1_loss(predicted, values, beta=0.1, reduction="none") * weight).sum(-1) / 4
    blinks = (predicted - values)[..., BLINK_VALUES].square().sum(-1)
    error = error + _BLINK_WEIGHT / 4 * blinks
    return error.mean() if inside is None else (error * inside).sum() / inside.sum().clamp_min(1)


def correlation_loss(predicted: Tensor, values: Tensor, inside: Tensor) -> Tensor:
    """One minus Pearson's r over time of the four lip values ``[b, f, 16]``, weighted as the auxiliary loss.

    A speaker's range of movement cannot be heard; when the lips move can. ``inside [b, f]`` is True where there is a
    frame.
    """
    counted = inside[..., None].to(values.dtype)
    total = counted.sum(1, keepdim=True).clamp_min(1)

    def centred(x: Tensor) -> Tensor:
        return (x - (x * counted).sum(1, keepdim=True) / total) * counted

    a, b = centred(predicted[..., :4]), centred(values[..., :4])
    # Series that hardly move have no direction to follow.
    r = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-2)
    weight = constant(LIP_WEIGHTS, values.device)
    return ((1 - r) * weight).sum(-1).mean() / weight.sum()
