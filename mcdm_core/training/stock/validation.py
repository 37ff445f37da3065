"""Validation of a stage on held-out clips: the loss, and a sheet of what the network makes of noise."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from ...config import MCDMConfig
from ...data.tar_clips import TarClips
from ..unet.denoiser import Denoiser
from ..vae.train import contact_sheet
from .objective import NoiseObjective, Parts, noise_loss, predict_noise
from .samples import ClipSamples

logger = logging.getLogger(__name__)

VALIDATION_BATCHES = 8
SHEET_SAMPLES, SHEET_NOISE = 6, 0.6
"""Columns of a sheet, and how far from clean its frames are, as a part of all timesteps."""
_SEED = 4242


def held_out(data: Path, config: MCDMConfig, stage: int) -> ClipSamples | None:
    """Samples of the held-out clips of a curated set; None, with a warning, if it has none."""
    tars = sorted((Path(data) / "val").glob("*.tar"))
    if not tars:
        logger.warning("%s has no shards in val/: nothing is validated", data)
        return None
    clips = TarClips(tars, at_least=2 * config.clip_frames)
    return ClipSamples(clips, config, _SEED, motion=stage == 3)


@torch.no_grad()
def validation_loss(
    denoiser: Denoiser, parts: Parts, held: ClipSamples, objective: NoiseObjective, device: torch.device
) -> float:
    """Mean squared error on the same held-out samples, noise and timesteps each time."""
    total: list[Tensor] = []
    for number in range(VALIDATION_BATCHES):
        batch = _batch(held, number, device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=objective.bfloat16):
            total.append(noise_loss(denoiser, parts, objective.schedule, batch, objective.stage))
    return float(torch.cat(total).mean())


@torch.no_grad()
def validation_sheet(
    path: Path, denoiser: Denoiser, parts: Parts, held: ClipSamples, objective: NoiseObjective, device: torch.device
) -> None:
    """A picture of held-out samples: in rows the reference, the true frame, it in noise, and what is made of that.

    All sheets show the same frames in the same noise.
    """
    columns: list[Tensor] = []
    steps = held.config.diffusion.num_train_timesteps
    for number in range(SHEET_SAMPLES):
        batch = _batch(held, number, device)
        batch["timestep"] = torch.full_like(batch["timestep"], round(SHEET_NOISE * steps))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=objective.bfloat16):
            found = predict_noise(denoiser, parts, objective.schedule, batch, objective.stage)
            middle = batch["target"].shape[1] // 2
            clean = objective.schedule.denoised(found.prediction.float(), found.noisy, batch["timestep"])
            shown = parts.vae.decode(torch.cat([found.noisy[:, middle], clean[:, middle].to(found.noisy)]))
        columns.append(torch.stack([batch["reference"][0], batch["target"][0, middle], *shown.float()]))
    contact_sheet(path, *torch.stack(columns, 1), columns=SHEET_SAMPLES)


def _batch(held: ClipSamples, number: int, device: torch.device) -> dict[str, Tensor]:
    return {key: value[None].to(device) for key, value in held[number].items()}
