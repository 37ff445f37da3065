"""Losses of the image denoiser: the MSE of the paper (section 4.1), weighted by place, and decoded cuts in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion.frame_diffusion import FrameDiffusion
from ...face.landmarks import EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, LIDS, LIPS
from ...models.vae import Autoencoder
from ..adversary import Adversary
from ..vae.train import laplacian_loss
from .batches import Batch
from .denoiser import Denoiser


def region_weights(landmarks: Tensor, size: int, lips: float = 3.0, lids: float = 2.0) -> Tensor:
    """Weight of every latent cell, mean 1: ``[b, f, 68, 2]`` to ``[b, f, 1, size, size]``, more at lips and lids."""
    cells = (torch.arange(size, dtype=torch.float32, device=landmarks.device) + 0.5) / size
    weight = torch.ones(*landmarks.shape[:2], size, size, device=landmarks.device)
    for group, extra in ((LIPS, lips), (LIDS, lids)):
        points = landmarks[:, :, group].float()
        across = torch.exp(-((points[..., 0, None] - cells) ** 2) / (2 * 0.045**2))
        down = torch.exp(-((points[..., 1, None] - cells) ** 2) / (2 * 0.045**2))
        weight = weight + extra * (down[..., :, None] * across[..., None, :]).amax(2)
    return (weight / weight.mean((-2, -1), keepdim=True)).unsqueeze(2)


def decoded_cuts(
    vae: Autoencoder, estimate: Tensor, true: Tensor, landmarks: Tensor, anywhere: float = 0.0
) -> tuple[Tensor, Tensor]:
    """One cut a frame, decoded and true ``[n, 3, h, w]``: around the mouth, an eye, or ``anywhere`` for a share.

    Args:
        estimate: x_0 latents ``[n, c, s, s]``; true: pictures ``[n, 3, H, W]``; landmarks: ``[n, 68, 2]``.
    """
    number, device = len(estimate), estimate.device
    size, scale = estimate.shape[-1], true.shape[-1] // estimate.shape[-1]
    side = size // 2

    def some(chance: float) -> Tensor:
        return torch.rand(number, 1, device=device) < chance

    centre = torch.where(some(0.5), landmarks[:, EYE_PICTURE_LEFT].mean(1), landmarks[:, EYE_PICTURE_RIGHT].mean(1))
    centre = torch.where(some(0.55), landmarks[:, LIPS].mean(1), centre)
    centre = torch.where(some(anywhere), torch.rand(number, 2, device=device), centre) * size
    corner = (centre - side / 2).round().long() + torch.randint(-1, 2, (number, 2), device=device)
    corner = corner.clamp(0, size - side)
    output = vae.decode(_cut(estimate, corner, side))
    target = _cut(true, corner * scale, side * scale)
    # The cut's edge lacks the latents beside it, so the decoder's first cell in is not judged.
    inner = slice(scale, -scale)
    return output[..., inner, inner].float(), target[..., inner, inner]


def _cut(pictures: Tensor, corners: Tensor, side: int) -> Tensor:
    """The square of ``side`` at ``corners [n, 2]`` (x, y) of every picture: ``[n, c, h, w] -> [n, c, side, side]``."""
    steps = torch.arange(side, device=pictures.device)
    number = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    down, across = (corners[:, 1, None] + steps)[:, :, None], (corners[:, 0, None] + steps)[:, None, :]
    return pictures.permute(0, 2, 3, 1)[number, down, across].permute(0, 3, 1, 2)


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 and Laplacian difference of pictures ``[n, 3, h, w]``."""
    return (output - target).abs().mean() + laplacian_loss(output, target)


def denoiser_losses(
    denoiser: Denoiser,
    batch: Batch,
    diffusion: FrameDiffusion,
    timestep: Tensor,
    *,
    bypass_temporal: bool,
    vae: Autoencoder | None = None,
    decode_weight: float = 0.0,
    refined: Tensor | None = None,
    anywhere: float = 0.0,
    adversary: Adversary | None = None,
    adversary_weight: float = 0.0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of one batch and the estimate of x_0 ``[b, f, c, h, w]`` (detached).

    Args:
        timestep: ``[b]``; refined: numbers ``[r]`` of the clips whose noisy latents are made from the model's own
            one-step estimate. The later steps of sampling see no others.
        anywhere: share of the decoded cuts that lie anywhere; adversary: critic of the cuts, and its weight.
    """
    attention = denoiser.archived_clip_prior.reference_attention(batch.reference)
    f_ac = denoiser.archived_clip_prior(attention, batch.archive)
    noise = torch.randn_like(batch.latents)
    noisy = diffusion.add_noise(batch.latents, noise, timestep)
    if refined is not None and len(refined):
        own = _own_noisy(denoiser, batch, diffusion, timestep, f_ac, refined, bypass_temporal)
        noisy = noisy.index_copy(0, refined, own.to(noisy.dtype))
    prediction, _ = denoiser.unet(
        noisy, timestep, f_ac, batch.motion, guide=batch.guide, bypass_temporal=bypass_temporal
    )
    prediction = prediction.float()
    if diffusion.prediction_type == "epsilon":
        target = diffusion.target(batch.latents, noise, timestep, batch.guide)
    else:
        target = diffusion.target_at(batch.latents, noisy, timestep, batch.guide)
    weights = region_weights(batch.landmarks, batch.latents.shape[-1])
    mse = ((prediction - target).square() * weights).mean()
    losses = {"loss": mse, "mse": mse}
    estimate = diffusion.denoised(prediction, noisy, timestep, batch.guide)
    if vae is not None and batch.pictures is not None:
        seen, points = estimate[:, batch.shown].flatten(0, 1), batch.landmarks[:, batch.shown].flatten(0, 1)
        output, true = decoded_cuts(vae, seen, batch.pictures.flatten(0, 1), points, anywhere)
        losses["decoded"] = picture_loss(output, true)
        losses["loss"] = mse + decode_weight * losses["decoded"]
        if adversary is not None:
            losses["critic"] = adversary.teach(output, true)
            losses["reward"] = adversary.reward(output, true)
            losses["loss"] = losses["loss"] + adversary_weight * losses["reward"]
    return losses, estimate.detach()


@torch.no_grad()
def _own_noisy(
    denoiser: Denoiser,
    batch: Batch,
    diffusion: FrameDiffusion,
    timestep: Tensor,
    f_ac: Tensor,
    chosen: Tensor,
    bypass_temporal: bool,
) -> Tensor:
    """Noisy latents of the chosen clips from the model's own one-step estimate, as after the sampler's first step."""
    latents = batch.latents[chosen]
    guide = None if batch.guide is None else batch.guide[chosen]
    motion = None if batch.motion is None else batch.motion[chosen]
    top = latents.new_full((len(latents),), float(diffusion.schedule.num_train_timesteps - 1))
    start = torch.randn_like(latents) * torch.rand(len(latents), 1, 1, 1, 1, device=latents.device) * 0.3
    prediction, _ = denoiser.unet(start, top, f_ac[chosen], motion, guide=guide, bypass_temporal=bypass_temporal)
    first = diffusion.denoised(prediction.float(), start, top, guide)
    return diffusion.add_noise(first, start, timestep[chosen])
