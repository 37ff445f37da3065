"""Losses of the denoiser of parts: the archive is retold, and a batch is learnt."""

from __future__ import annotations

import dataclasses

import torch

from mcdm_core.config import TINY
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.training.parts.retelling import ArchiveRetelling
from mcdm_core.training.unet.denoiser import Denoiser

NARROW = dataclasses.replace(
    TINY,
    clip_frames=4,
    unet=dataclasses.replace(TINY.unet, block_channels=(32, 32, 32), num_heads=2),
    archived_clip_prior=dataclasses.replace(TINY.archived_clip_prior, width=64),
)


def clip(unet: DenoisingUNet, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs of a UNet: one face, its two parts."""
    draw = torch.Generator().manual_seed(seed)
    side, channels = NARROW.unet.latent_size, NARROW.unet.latent_channels
    return {
        "latents": torch.randn(2, 4, channels, side, side, generator=draw),
        "tokens": torch.randn(2, 4, 8, 64, generator=draw) * 0.3,
        "guide": torch.rand(2, 4, NARROW.unet.guide_channels, side, side, generator=draw),
        "still": torch.randn(2, channels, side, side, generator=draw),
    }


def known(given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Composite and region of the guide."""
    return given["guide"][:, :, :12], given["guide"][:, :, 24:25]


def run(denoiser: Denoiser, given: dict[str, torch.Tensor], archive: torch.Tensor) -> torch.Tensor:
    prior = denoiser.archived_clip_prior
    f_ac = prior(prior.reference_attention(given["still"]), archive)
    time = torch.full((2,), 999.0)
    return denoiser.unet(given["latents"], time, f_ac, given["tokens"], None, given["guide"])[0]


def test_layers_two_and_four_learn_to_retell_the_archive() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(NARROW)
    denoiser.archived_clip_prior.begin_at_places()
    retelling = ArchiveRetelling(denoiser.unet, NARROW)
    given = clip(denoiser.unet)
    optimizer = torch.optim.AdamW([*denoiser.parameters(), *retelling.parameters()], 3e-3)
    errors = []
    for step in range(80):
        # Each cell block of an archive has a colour of its own, another one in every step.
        draw = torch.Generator().manual_seed(step)
        archive = torch.randn(2, 4, 12, 3, 3, generator=draw).repeat_interleave(4, -1).repeat_interleave(4, -2)
        run(denoiser, given, archive)
        error = retelling(archive, *known(given))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert sum(errors[-5:]) < 0.7 * sum(errors[:5])
    # With layer 2 dead there is nothing to retell.
    for block in denoiser.unet.transformer_blocks():
        torch.nn.init.zeros_(block.archived_attn.to_out[0].weight)
    run(denoiser, given, archive)
    assert float(retelling(archive, *known(given))) > 1.2 * errors[-1]


def test_nothing_is_kept_of_runs_without_gradients() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(NARROW)
    retelling = ArchiveRetelling(denoiser.unet, NARROW)
    given = clip(denoiser.unet)
    with torch.no_grad():
        run(denoiser, given, given["latents"])
    assert float(retelling(given["latents"], *known(given))) == 0.0
