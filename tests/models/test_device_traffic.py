"""Nothing of a network's work lies on another device: each copy would make the host wait for a GPU."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import SMALL, TINY, MCDMConfig
from mcdm_core.face.part_shapes import SHAPE_TOKENS
from mcdm_core.models.archived_clip_prior import ArchivedClipPrior
from mcdm_core.models.unet import DenoisingUNet

from ..device_traffic import Traffic, outlined


def narrow(config: MCDMConfig) -> MCDMConfig:
    """Fewer channels; the layers are the same."""
    channels = (32,) * len(config.unet.block_channels)
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, block_channels=channels, num_heads=2))


@pytest.mark.parametrize("config", [narrow(SMALL), narrow(TINY)], ids=["stable_diffusion", "compact"])
@pytest.mark.parametrize("kind", ["exact", "favor"])
def test_an_evaluation_of_the_unet_copies_nothing_between_devices(config: MCDMConfig, kind: str) -> None:
    unet, prior, codec, frames = config.unet, config.archived_clip_prior, config.motion_codec, config.clip_frames
    with torch.device("meta"):
        network, archive = DenoisingUNet(config).to("meta"), ArchivedClipPrior(config)
    network.set_temporal_attention(kind)
    x = outlined(2, frames, unet.latent_channels, unet.latent_size, unet.latent_size)
    width = codec.motion_dim * (2 if config.parts.size else 1)
    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens + SHAPE_TOKENS * unet.shape_maps
    guide = None
    if unet.warped_reference:
        guide = outlined(2, frames, unet.guide_channels, unet.latent_size, unet.latent_size)
    with torch.no_grad(), Traffic() as traffic:
        rows = archive(outlined(2, prior.num_queries, (prior.latent_size // prior.patch_size) ** 2), x)
        given = outlined(2), rows, outlined(2, frames, tokens, width)
        _, memory = network(x, *given, guide=guide)
        network(x, *given, memory, guide=guide)
    assert not traffic.found


def test_traffic_is_seen_where_there_is_some() -> None:
    with Traffic() as traffic:
        torch.ones(3).to("meta")
    assert sum(traffic.found.values()) == 1
