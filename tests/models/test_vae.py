"""The small autoencoder: shapes, normalised latents, loss, errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.config import TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.image_encoder import ConvImageEncoder
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.training.frame_store import split_count
from mcdm_core.training.vae.data import FramePool, cut_batch, cut_squares, picture_pool, random_cuts
from mcdm_core.training.vae.train import laplacian_loss, psnr, reconstruction_losses, train_vae


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
    pool = picture_pool("test", frames, 1.0, (1.0, 1.9))
    pool.spots = torch.full((2, 3, 2), 0.5)
    batch = cut_batch([pool, picture_pool("small", [frames[0][:50]], 0.5, (1.0, 1.4))], 6)
    assert batch.shape == (6, 3, 64, 64) and batch.abs().max() <= 1.0


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("side", [64, 75, 101, 121, 40])
def test_a_cut_is_the_area_average_of_its_square(side: int, mirrored: bool) -> None:
    frames = torch.randint(256, (3, 130, 140, 3), dtype=torch.uint8)
    corner, index = torch.tensor([[17.0, 5.0], [140.0 - side, 130.0 - side]]), torch.tensor([2, 0])
    cuts = cut_squares(frames, index, corner, torch.full((2,), float(side)), torch.full((2,), mirrored), 64, 122)
    for cut, k, (left, top) in zip(cuts, index.tolist(), corner.long().tolist(), strict=True):
        source = frames[k, top : top + side, left : left + side].double().numpy() / 127.5 - 1
        # The mean over a real interval is a difference of the running sum, interpolated.
        for axis in (0, 1):
            whole = np.cumsum(np.insert(source, 0, 0.0, axis), axis)
            edges = np.linspace(0, side, 65)
            at = np.apply_along_axis(lambda line, edges=edges: np.interp(edges, np.arange(side + 1), line), axis, whole)
            source = np.diff(at, axis=axis) / (side / 64)
        expected = source[:, ::-1] if mirrored else source
        assert np.abs(cut.permute(1, 2, 0).numpy() - expected).max() < 1e-4


def test_half_of_the_cuts_are_about_the_known_spots() -> None:
    frames = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    frames[0, 95:105, 60:68] = 255
    pool = FramePool("t", frames, torch.tensor([[128.0, 128.0]]), 1.0, (1.0, 1.0))
    anywhere = (random_cuts(pool, 600).amax((1, 2, 3)) > 0).float().mean()
    pool.spots = torch.tensor([64.0, 100.0]).div(128).expand(1, 3, 2)
    about = (random_cuts(pool, 600).amax((1, 2, 3)) > 0).float().mean()
    assert about > anywhere + 0.1


def test_pools_share_a_batch_and_grow() -> None:
    assert split_count(10, (0.45, 0.35, 0.25)) == [4, 3, 3] and sum(split_count(7, (1, 1, 1, 1))) == 7
    pool = picture_pool("a", [np.zeros((70, 70, 3), np.uint8)], 1.0, (1.0, 1.0))
    pool.extend(picture_pool("a", [np.full((70, 70, 3), 255, np.uint8)], 1.0, (1.0, 1.0)))
    assert len(pool) == 2 and float(pool.frames.float().mean()) == 127.5


def test_a_step_stays_on_its_device_and_never_waits_for_it() -> None:
    """On the meta device, which has no data: a value that is looked at, or a tensor of the CPU, is an error."""
    vae = TinyAutoencoder(TINY).to("meta")
    frames = torch.empty(5, 128, 120, 3, dtype=torch.uint8, device="meta")
    labelled = FramePool("a", frames, torch.empty(5, 2, device="meta"), 1.0, spots=torch.empty(5, 3, 2, device="meta"))
    x = cut_batch([labelled, FramePool("b", frames, torch.empty(5, 2, device="meta"), 0.5)], 8)
    latents = vae.encoder(x)
    losses = reconstruction_losses(vae.decoder(latents), latents, x)
    losses["loss"].backward()
    assert x.device.type == "meta" and all(p.grad is not None for p in vae.parameters())


@pytest.mark.parametrize("critic_weight", [0.0, 0.01])
def test_a_short_training_writes_normalised_weights(tmp_path: Path, critic_weight: float) -> None:
    for k, value in enumerate(np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3))):
        picture = cv2.resize(value.astype(np.uint8), (225, 225))
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture)
    result = train_vae(
        None,
        tmp_path / "vae.safetensors",
        steps=4,
        stills=tmp_path,
        batch_size=4,
        bfloat16=False,
        critic_weight=critic_weight,
        critic_from=0.0,
        pictures=tmp_path / "sheets",
    )
    assert result.steps == 4 and ("reward" in result.losses) == (critic_weight > 0)
    state = load_file(str(tmp_path / "vae.safetensors"))
    assert set(state) == set(TinyAutoencoder(TINY).state_dict())
    assert float(state["latent_std"].sub(1).abs().max()) > 0
    assert list((tmp_path / "sheets").glob("*.png"))


def test_image_tokens() -> None:
    tokens = ConvImageEncoder(TINY)(torch.rand(2, 3, 128, 128))
    assert tokens.shape == (2, 16, TINY.image_encoder.feature_dim)
