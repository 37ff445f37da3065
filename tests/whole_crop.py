"""The configuration of version 0.1's ``tiny``: the whole crop is painted over the warped reference."""

from __future__ import annotations

import dataclasses

from mcdm_core.config import TINY, DiffusionConfig, PartsConfig

WHOLE_CROP = dataclasses.replace(
    TINY,
    image_size=128,
    parts=PartsConfig(),
    archived_clip_prior=dataclasses.replace(TINY.archived_clip_prior, latent_size=16),
    unet=dataclasses.replace(
        TINY.unet,
        latent_size=16,
        block_channels=(96, 128, 192),
        attention_levels=(False, True, True),
        guide_channels=26,
        shape_maps=False,
        archive_places=False,
        block_projections=False,
    ),
    diffusion=DiffusionConfig(
        prediction_type="prior_residual", prior_variance_terms=(0.03, 0.065, 0.03, 0.092, 1.89), temperature=0.1
    ),
)
