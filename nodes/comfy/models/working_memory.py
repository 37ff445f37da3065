"""Estimate of what sampling needs beside the weights, for ComfyUI's memory management."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ....mcdm_core.pipeline import MCDMPipeline


def working_bytes(pipeline: MCDMPipeline) -> int:
    """Bytes of activations of one clip, generously.

    The widest feature maps of the UNet (first level) are kept a few dozen times over during a step, and the decoder's
    full-resolution maps about as often.
    """
    config = pipeline.config
    latents = config.clip_frames * config.unet.latent_size**2
    unet = latents * config.unet.block_channels[0] * 24
    decoder = config.clip_frames * config.image_size**2 * config.vae.block_channels[0] * 4
    return int(max(unet, decoder) * 4)
