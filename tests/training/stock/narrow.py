"""A narrow model of the stock layout, and a recipe of a few steps."""

from __future__ import annotations

import dataclasses

from mcdm_core.config import BASE, MCDMConfig
from mcdm_core.training.stock.train import StockRecipe

NARROW: MCDMConfig = dataclasses.replace(
    BASE,
    image_size=64,
    clip_frames=4,
    archive_frames=4,
    vae=dataclasses.replace(BASE.vae, stock_channels=(4, 4, 8, 8), norm_groups=2),
    motion_codec=dataclasses.replace(BASE.motion_codec, width=16, num_layers=1, num_heads=2, motion_dim=8),
    archived_clip_prior=dataclasses.replace(BASE.archived_clip_prior, width=8, num_queries=2, latent_size=8),
    unet=dataclasses.replace(
        BASE.unet,
        latent_size=8,
        block_channels=(8, 8),
        attention_levels=(True, False),
        num_heads=2,
        norm_groups=2,
        text_context_dim=0,
        layers_per_block=1,
    ),
)
RECIPE = StockRecipe(
    steps=4,
    learning_rate=1e-3,
    batch=4,
    warmup_steps=1,
    ema_decay=0.0,
    backbone=True,
    bfloat16=False,
    readers=0,
    studied=8,
    validate_every=100,
    save_every=100,
    log_every=1,
)
