"""Sampling copies nothing to the device at its steps, however many there are."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

from mcdm_core.config import BASE, TINY, MCDMConfig
from mcdm_core.diffusion.frame_diffusion import FrameDiffusion
from mcdm_core.models.present_clip_prior import PresentClipPrior

from ..device_traffic import Traffic, outlined
from ..motion_fixtures import CONFIG, DIM, TOKENS
from ..whole_crop import WHOLE_CROP


def frames(config: MCDMConfig, steps: int) -> Counter[str]:
    unet = config.unet
    guide = outlined(2, 4, unet.guide_channels, 8, 8) if unet.warped_reference else None
    with Traffic() as traffic:
        FrameDiffusion(config).sample(
            lambda x, _: torch.zeros_like(x), outlined(2, 4, unet.latent_channels, 8, 8), steps, guide
        )
    return traffic.found


@pytest.mark.parametrize("config", [TINY, BASE, WHOLE_CROP], ids=["parts", "stock", "whole_crop"])
def test_frames(config: MCDMConfig) -> None:
    few, many = frames(config, 2), frames(config, 7)
    assert few == many
    assert sum(few.values()) <= 1, "the variance's terms, once a clip"


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_motion(kind: str, guidance: float) -> None:
    settings = dataclasses.replace(CONFIG.present_clip_prior, prediction_type=kind)
    prior = PresentClipPrior(dataclasses.replace(CONFIG, present_clip_prior=settings)).to("meta")
    audio = outlined(1, 4, 1, CONFIG.audio_encoder.feature_dim)
    image = outlined(1, TOKENS, CONFIG.image_encoder.feature_dim)
    context = outlined(1, 2, TOKENS, DIM)

    def sample(steps: int) -> Counter[str]:
        with Traffic() as traffic:
            prior.predict(audio, image, context, steps=steps, guidance=guidance)
        return traffic.found

    few, many = sample(2), sample(7)
    assert few == many
    assert sum(few.values()) <= 2, "the noise and its scale, once"


def test_a_batch_of_timesteps_takes_the_table_along_once() -> None:
    diffusion, clean = FrameDiffusion(BASE), outlined(2, 4, 4, 8, 8)
    with Traffic() as traffic:
        for _ in range(3):
            diffusion.add_noise(clean, clean, outlined(2))
    assert sum(traffic.found.values()) == 1
