"""The sheet of held-out clips shows what the network makes of noise: a network that knows it gives the true frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcdm_core.data.tar_clips import TarClips
from mcdm_core.training.stock.objective import NoiseObjective, Parts
from mcdm_core.training.stock.samples import ClipSamples
from mcdm_core.training.stock.train import train_stock
from mcdm_core.training.stock.validation import SHEET_SAMPLES, validation_sheet
from mcdm_core.training.unet.denoiser import Denoiser
from mcdm_core.training.workers import Workers

from .narrow import NARROW, RECIPE

CPU = torch.device("cpu")


class PlainAutoencoder(nn.Module):
    """Latents are small pictures, so that what is decoded can be told."""

    def encode(self, frames: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(frames, 8)
        return torch.cat([small, small[:, :1]], 1)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8.0)


class KnowsTheNoise(nn.Module):
    """A UNet that is told the noise of one sample after the other."""

    def __init__(self, samples: ClipSamples, off: float) -> None:
        super().__init__()
        self.samples, self.off, self.number = samples, off, 0

    def forward(self, noisy: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        noise = self.samples[self.number]["noise"][None]
        self.number += 1
        return noise + self.off, None


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_who_knows_the_noise_shows_the_true_frame(data: Path, tmp_path: Path, off: float) -> None:
    held = ClipSamples(TarClips(sorted((data / "train").glob("*.tar")), at_least=8), NARROW, seed=3)
    denoiser = Denoiser(NARROW)
    denoiser.unet = KnowsTheNoise(held, off)  # type: ignore[assignment]
    parts = Parts(PlainAutoencoder())  # type: ignore[arg-type]
    objective = NoiseObjective(denoiser, parts, held, NARROW, 1, batch=2, workers=Workers(), device=CPU, bfloat16=False)
    validation_sheet(tmp_path / "sheet.png", denoiser, parts, held, objective, CPU)
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(float)
    assert sheet.shape == (4 * 64, SHEET_SAMPLES * 64, 3)
    reference, true, noisy, made = (
        row.reshape(8, 8, -1, 8, 3).mean((1, 3)) for row in sheet.reshape(4, 64, SHEET_SAMPLES * 64, 3)
    )
    away = np.abs(made - true).mean()
    assert (away < 2) == (off == 0), away
    assert np.abs(noisy - true).mean() > 10 and np.abs(reference - true).mean() > 1


def test_a_stage_leaves_sheets_beside_its_weights(data: Path, start: Path, tmp_path: Path) -> None:
    train_stock(3, data, [start], tmp_path / "unet.safetensors", RECIPE)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["unet_000004.png"]
