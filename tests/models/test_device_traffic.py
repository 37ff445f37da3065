"""Nothing of a network's work lies on another device: each copy would make the host wait for a GPU.

Networks on PyTorch's ``meta`` device show it without a GPU: what they hold or make elsewhere meets their tensors there.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mcdm_core.config import SMALL, TINY, MCDMConfig
from mcdm_core.face.part_shapes import SHAPE_TOKENS
from mcdm_core.models.archived_clip_prior import ArchivedClipPrior
from mcdm_core.models.unet import DenoisingUNet


class Traffic(TorchDispatchMode):
    """Counts operations between devices by the line of the package that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            frame = [frame for frame in traceback.extract_stack()[:-1] if "torch" not in frame.filename][-1]
            self.found[f"{func} in {Path(frame.filename).name}:{frame.lineno}"] += 1
        return made


def narrow(config: MCDMConfig) -> MCDMConfig:
    """Fewer channels; the layers are the same."""
    channels = (32,) * len(config.unet.block_channels)
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, block_channels=channels, num_heads=2))


def outlined(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


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
