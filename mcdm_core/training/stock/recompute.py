"""Activation checkpointing: keep what enters each block of the UNet, compute the block again for its gradients."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint

from ...models.unet import DenoisingUNet


def blocks_of(unet: DenoisingUNet) -> Iterator[nn.Module]:
    """The residual and transformer blocks, which hold nearly all activations."""
    for level in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        yield from level.resnets
        yield from getattr(level, "attentions", [])


def recompute_activations(unet: DenoisingUNet) -> None:
    """Compute every block a second time in the backward pass; outputs and gradients stay the same."""
    for block in blocks_of(unet):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
