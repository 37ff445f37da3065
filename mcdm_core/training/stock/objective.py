"""The paper's loss (section 4.1): mean squared error of the predicted noise, in stages 1 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...config import MCDMConfig
from ...diffusion.frame_diffusion import FrameDiffusion
from ...models.motion_codec import MotionCodec
from ...models.vae import Autoencoder
from ..unet.denoiser import Denoiser
from ..workers import Workers
from .samples import BatchStream, ClipSamples

_ENCODED = 8
"""Frames that the autoencoder takes at a time: its activations are larger than the UNet's."""
_NOISED = 0.1
"""Deviation of the noise that archives are augmented with (C)."""


class Parts(NamedTuple):
    """What the loss is computed with: the frozen autoencoder and, for stage 3, the frozen motion codec."""

    vae: Autoencoder
    codec: MotionCodec | None = None


@torch.no_grad()
def encode_frames(vae: Autoencoder, frames: Tensor) -> Tensor:
    """Latents ``[b, f, c, h, w]`` of pictures ``[b, f, 3, H, W]``, a few at a time."""
    flat = frames.flatten(0, 1)
    return torch.cat([vae.encode(part) for part in flat.split(_ENCODED)]).unflatten(0, frames.shape[:2])


class NoisePrediction(NamedTuple):
    """What the UNet says of ``noisy``, and the clean ``target``: latents ``[b, f, c, h, w]`` all."""

    prediction: Tensor
    noisy: Tensor
    target: Tensor


def predict_noise(
    denoiser: Denoiser, parts: Parts, schedule: FrameDiffusion, batch: Mapping[str, Tensor], stage: int
) -> NoisePrediction:
    """Each sample of a batch (``samples.py``) under its own noise and timestep."""
    frames = batch["target"].shape[1]
    reference = encode_frames(parts.vae, batch["reference"][:, None])[:, 0]
    target = encode_frames(parts.vae, batch["target"])
    archive = encode_frames(parts.vae, batch["archive"])
    # Some noise, drawn from the sample's own so that it is the same on any number of processes.
    archive = archive + _NOISED * batch["noise"].flip(1)
    start = batch["start"].view(-1, 1, 1, 1, 1)
    archive = torch.where(start, reference[:, None].expand(-1, frames, -1, -1, -1), archive)
    prior = denoiser.archived_clip_prior
    f_ac = prior(prior.reference_attention(reference), archive)
    motion = None
    if stage == 3 and parts.codec is not None:
        with torch.no_grad():
            motion = parts.codec.encode(batch["faces"], batch["landmarks"]).cat()
        motion = motion * ~batch["dropped"].view(-1, 1, 1, 1)
    noisy = schedule.add_noise(target, batch["noise"], batch["timestep"])
    prediction, _ = denoiser.unet(noisy, batch["timestep"], f_ac, motion, bypass_temporal=stage == 1)
    return NoisePrediction(prediction, noisy, target)


def noise_loss(
    denoiser: Denoiser, parts: Parts, schedule: FrameDiffusion, batch: Mapping[str, Tensor], stage: int
) -> Tensor:
    """Mean squared error ``[b]`` of each sample of a batch."""
    found = predict_noise(denoiser, parts, schedule, batch, stage)
    wanted = schedule.target(found.target, batch["noise"], batch["timestep"])
    return (found.prediction.float() - wanted.float()).square().mean((1, 2, 3, 4))


class NoiseObjective:
    """Losses of batch after batch; called by the training loop with the batch's number.

    Args:
        batch: samples a call, over all processes; readers: processes that decode; bfloat16: compute in it.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parts: Parts,
        samples: ClipSamples,
        config: MCDMConfig,
        stage: int,
        *,
        batch: int,
        workers: Workers,
        device: torch.device,
        readers: int = 0,
        bfloat16: bool = True,
    ) -> None:
        self.denoiser, self.parts, self.stage = denoiser, parts, stage
        self.schedule = FrameDiffusion(config)
        self.device, self.bfloat16 = device, bfloat16
        self.stream = BatchStream(samples, batch, workers, device, readers)

    def __call__(self, number: int) -> dict[str, Tensor]:
        """``loss`` over this process's share of batch ``number``."""
        batch = self.stream.next(number)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            losses = noise_loss(self.denoiser, self.parts, self.schedule, batch, self.stage)
        return {"loss": losses.mean()}
