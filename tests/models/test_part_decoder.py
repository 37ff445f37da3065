"""The decoder of painted parts: it begins as the autoencoder's, and sees contours and portrait."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.config import TINY, PartDecoderConfig
from mcdm_core.face.part_shapes import SHAPE_WIDTH
from mcdm_core.models.part_decoder import PartDecoder
from mcdm_core.models.vae import TinyAutoencoder

NARROW = dataclasses.replace(
    TINY,
    vae=dataclasses.replace(TINY.vae, block_channels=(8, 12, 16)),
    part_decoder=PartDecoderConfig(block_channels=(8, 12, 16), blocks_per_level=(2, 2, 2)),
)


@pytest.fixture
def decoder() -> PartDecoder:
    """Random weights, none of them zero."""
    torch.manual_seed(0)
    decoder = PartDecoder(NARROW)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return decoder


def given(videos: int = 2, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, shape tokens, portraits."""
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(videos, frames, 12, 12, 12, generator=draw)
    shapes = torch.rand(videos, frames, 2, SHAPE_WIDTH, generator=draw)
    return latents, shapes, torch.rand(videos, 3, 96, 96, generator=draw) * 2 - 1


@torch.no_grad()
def test_it_begins_with_the_autoencoders_pictures() -> None:
    torch.manual_seed(0)
    vae, decoder = TinyAutoencoder(NARROW), PartDecoder(NARROW)
    vae.latent_mean.normal_()
    vae.latent_std.uniform_(0.5, 2.0)
    decoder.begin_at(vae)
    latents, shapes, portraits = given()
    pictures = decoder(latents, shapes, decoder.portrait_features(portraits)).flatten(0, 1)
    wanted = vae.decode(latents.flatten(0, 1))
    # The first convolution pads latents there, and here what they are normalised to: that reaches a cell from the rim
    # and, through the blocks of the lowest level, four more.
    inside = (..., slice(44, -44), slice(44, -44))
    assert wanted[inside].std() > 0.01
    torch.testing.assert_close(pictures[inside], wanted[inside], rtol=0, atol=1e-4)
    vae.latent_mean.zero_()
    decoder.begin_at(vae)
    pictures = decoder(latents, shapes, decoder.portrait_features(portraits)).flatten(0, 1)
    torch.testing.assert_close(pictures, vae.decode(latents.flatten(0, 1)), rtol=0, atol=1e-5)


def test_widths_that_are_not_the_autoencoders_are_refused() -> None:
    with pytest.raises(RuntimeError):
        PartDecoder(NARROW).begin_at(TinyAutoencoder(TINY))


@torch.no_grad()
@pytest.mark.parametrize("which", ["latents", "shapes", "portraits"])
def test_every_input_decides_the_picture(decoder: PartDecoder, which: str) -> None:
    values = dict(zip(("latents", "shapes", "portraits"), given(), strict=True))

    def decoded(latents: torch.Tensor, shapes: torch.Tensor, portraits: torch.Tensor) -> torch.Tensor:
        return decoder(latents, shapes, decoder.portrait_features(portraits))

    before, other = decoded(**values), dict(values)
    other[which] = values[which].roll(1, 0)
    assert (decoded(**other) - before).abs().mean() > 0.01 * before.std()


@torch.no_grad()
def test_a_frame_is_decoded_by_itself_with_its_own_portrait(decoder: PartDecoder) -> None:
    latents, shapes, portraits = given()
    together = decoder(latents, shapes, decoder.portrait_features(portraits))
    assert together.shape == (2, 3, 3, 96, 96)
    for video in range(2):
        features = decoder.portrait_features(portraits[video : video + 1])
        alone = decoder(latents[video : video + 1, 1:2], shapes[video : video + 1, 1:2], features)
        torch.testing.assert_close(alone[0, 0], together[video, 1], rtol=1e-4, atol=1e-5)
