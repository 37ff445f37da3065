"""The small autoencoder: shapes, normalised latents, loss, errors."""

import numpy as np
import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.image_encoder import ConvImageEncoder
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.training.vae import FramePool, cut_batch, laplacian_loss, psnr


def test_shapes_and_size() -> None:
    vae = TinyAutoencoder(TINY)
    latents = vae.encode(torch.rand(2, 3, 64, 128) * 2 - 1)
    assert latents.shape == (2, 12, 8, 16)
    assert vae.decode(latents).shape == (2, 3, 64, 128)
    assert 1.5e6 < sum(p.numel() for p in vae.parameters()) < 2.1e6


def test_measured_latents_are_normal_and_decoding_undoes_it() -> None:
    torch.manual_seed(0)
    vae = TinyAutoencoder(TINY)
    pictures = torch.rand(8, 3, 32, 32) * 2 - 1
    plain = vae(pictures)
    vae.measure_latents(pictures)
    latents = vae.encode(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-2
    assert torch.allclose(vae.decode(latents), plain, atol=1e-5)


def test_sides_must_fit() -> None:
    with pytest.raises(MCDMError, match="multiples of 8"):
        TinyAutoencoder(TINY).encode(torch.zeros(1, 3, 60, 64))


def test_laplacian_loss_sees_detail_and_not_brightness() -> None:
    x = torch.rand(1, 3, 32, 32)
    assert laplacian_loss(x + 0.3, x) < 1e-5
    assert laplacian_loss(x + 0.3 * torch.randn_like(x), x) > 0.1


def test_psnr_of_a_known_error() -> None:
    x = torch.zeros(1, 3, 8, 8)
    assert float(psnr(x + 0.2, x)) == pytest.approx(20.0, abs=1e-3)


def test_cuts_are_in_range_and_never_enlarged_beyond_the_frame() -> None:
    frames = [np.full((70, 90, 3), value, np.uint8) for value in (0, 255)]
    pool = FramePool("test", frames, [None, np.full((68, 2), 0.5, np.float32)], 1.0)
    batch = cut_batch([pool, FramePool("empty", [], [], 1.0)], 6, np.random.default_rng(0))
    assert batch.shape == (6, 3, 64, 64) and batch.abs().max() <= 1.0


def test_image_tokens() -> None:
    tokens = ConvImageEncoder(TINY)(torch.rand(2, 3, 128, 128))
    assert tokens.shape == (2, 16, TINY.image_encoder.feature_dim)
