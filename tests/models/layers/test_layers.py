"""Stable Diffusion's layers are diffusers', weight by weight and value by value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mcdm_core.models.layers.feed_forward import FeedForward
from mcdm_core.models.layers.residual_block import Downsample, ResidualBlock, Upsample
from mcdm_core.models.layers.time_embedding import TimestepEmbedding, timestep_waves


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("out", [8, 12])
def test_the_residual_block(scale_shift: bool, out: int) -> None:
    from diffusers.models.resnet import ResnetBlock2D

    theirs = ResnetBlock2D(
        in_channels=8,
        out_channels=out,
        temb_channels=6,
        groups=4,
        eps=1e-5,
        time_embedding_norm="scale_shift" if scale_shift else "default",
    ).eval()
    ours = ResidualBlock(8, out, 6, 4, scale_shift=scale_shift)
    same_weights(ours, theirs)
    x, embedding = torch.randn(2, 8, 6, 6), torch.randn(2, 6)
    assert torch.equal(ours(x, embedding), theirs(x, embedding))


@torch.no_grad()
def test_changes_of_resolution() -> None:
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.upsampling import Upsample2D

    x = torch.randn(2, 4, 6, 6)
    for ours, theirs in (
        (Downsample(4), Downsample2D(4, use_conv=True, padding=1, name="op")),
        (Upsample(4), Upsample2D(4, use_conv=True)),
    ):
        same_weights(ours, theirs)
        assert torch.equal(ours(x), theirs(x))


@torch.no_grad()
@pytest.mark.parametrize("activation", ["geglu", "gelu"])
def test_the_feed_forward_network(activation: str) -> None:
    from diffusers.models.attention import FeedForward as Theirs

    ours, theirs = FeedForward(6, 2.5, activation), Theirs(6, mult=2.5, activation_fn=activation)
    same_weights(ours, theirs)
    x = torch.randn(3, 5, 6)
    assert torch.equal(ours(x), theirs(x))


@torch.no_grad()
def test_the_time_embedding() -> None:
    from diffusers.models.embeddings import TimestepEmbedding as Theirs
    from diffusers.models.embeddings import Timesteps

    times = torch.tensor([0.0, 12.5, 999.0])
    waves = timestep_waves(times, 32)
    torch.testing.assert_close(waves, Timesteps(32, flip_sin_to_cos=True, downscale_freq_shift=0)(times))
    ours, theirs = TimestepEmbedding(32, 16), Theirs(32, 16)
    same_weights(ours, theirs)
    assert torch.equal(ours(waves), theirs(waves))
