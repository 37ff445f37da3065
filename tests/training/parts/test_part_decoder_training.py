"""Training of the parts' decoder: on what the frozen denoiser paints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.checkpoint import component_state, load_directory
from mcdm_core.config import TINY
from mcdm_core.models.part_decoder import PartDecoder
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.pipeline import preset_weights
from mcdm_core.training.parts.decoder import BEYOND, PART_DECODER, between_steps, train_part_decoder
from mcdm_core.training.parts.losses import LossWeights
from mcdm_core.training.parts.stage import (
    PartMaterial,
    PartRun,
    load_denoiser,
    load_part_decoder,
)
from mcdm_core.training.parts.train import PARTS_STAGE_1, PARTS_STAGE_3_REFINED, train_parts
from mcdm_core.training.unet.denoiser import Denoiser

from .spotted_clips import write_spotted_clip

WEIGHTS = preset_weights("tiny")
NARROW = dataclasses.replace(
    TINY, clip_frames=4, unet=dataclasses.replace(TINY.unet, block_channels=(32, 32, 32), num_heads=2)
)


def test_latents_are_as_sampled_softer_or_on_the_way_to_true_ones() -> None:
    torch.manual_seed(0)
    soft, made, clean = (torch.full((4000, 1, 1, 1, 1), value) for value in (0.0, 1.0, 100.0))
    drawn = between_steps(soft, made, clean).flatten()
    assert 0.4 < float((drawn == 1).float().mean()) < 0.6
    between = drawn[(drawn != 1) & (drawn <= BEYOND)]
    assert 0.3 < len(between) / len(drawn) < 0.5
    assert float(between.min()) < 0.05 and float(between.max()) > 1.0
    assert 0.05 < float((drawn > BEYOND).float().mean()) < 0.1


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_it_learns_from_the_autoencoders_decoder_on_and_becomes_a_part_of_the_model(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_spotted_clip(tmp_path / split)
    given = {"clips": 1, "frames": 4, "learning_rate": 2e-3, "weights": LossWeights()}  # warms up in 100 steps
    recipe = dataclasses.replace(PART_DECODER, **given)
    painter, output = tmp_path / "painter.safetensors", tmp_path / "run" / "part_decoder.safetensors"
    begin_run = PartRun(
        [tmp_path / "train"],
        [tmp_path / "val"],
        WEIGHTS,
        WEIGHTS,
        painter,
        config=NARROW,
        steps=1,
        validate_every=10**6,
    )
    train_parts(dataclasses.replace(PARTS_STAGE_1, clips=1), begin_run)

    def loss_after(steps: int) -> float:
        run = dataclasses.replace(begin_run, output=output, start_from=painter, steps=steps)
        losses = train_part_decoder(recipe, run).losses
        assert "reading" in losses, "painted lips are read"
        return losses["absolute"]

    assert loss_after(3) * 0.9 > loss_after(40)
    state = load_file(str(output))
    blind = dataclasses.replace(TINY, part_decoder=dataclasses.replace(TINY.part_decoder, gallery=0))
    vae, begin = TinyAutoencoder(TINY), PartDecoder(blind)
    vae.load_state_dict(component_state(WEIGHTS, "vae"))
    begin.begin_at(vae)
    assert state.keys() == begin.state_dict().keys()
    began_at_zero = ("shape_in", "portrait_out.0", "portrait_out.1", "portrait_gates.0", "portrait_gates.1")
    for layer in (*began_at_zero, "archive.features", "blocks.0.1.second"):
        assert state[f"{layer}.weight"].abs().sum() > 0
    refined = dataclasses.replace(
        begin_run, config=TINY, output=tmp_path / "refined.safetensors", start_from=WEIGHTS, refine=WEIGHTS, steps=1
    )
    train_part_decoder(dataclasses.replace(recipe, learning_rate=1e-7), refined)
    shipped = component_state(WEIGHTS, "part_decoder")
    for name, value in load_file(str(refined.output)).items():
        assert torch.allclose(value, shipped[name].float(), atol=1e-5), name
    found = load_directory(output.parent)
    assert found.states["part_decoder"].keys() == state.keys()
    assert found.config.part_decoder == blind.part_decoder


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_a_refined_painter_is_judged_by_what_the_models_own_decoder_shows(tmp_path: Path) -> None:
    write_spotted_clip(tmp_path)
    run = PartRun([tmp_path], [tmp_path], WEIGHTS, WEIGHTS, tmp_path / "unet.safetensors", start_from=WEIGHTS, steps=1)
    recipe = dataclasses.replace(PARTS_STAGE_3_REFINED, clips=1, frames=2, carried=0.0)
    material, denoiser = PartMaterial(recipe, run), Denoiser(TINY)
    load_denoiser(denoiser, WEIGHTS)
    decoder = load_part_decoder(WEIGHTS, TINY, "cpu")
    assert decoder is not None
    pictures_alone = LossWeights(latents=0, second_latents=0, reading=0)

    def gradient() -> float:
        denoiser.zero_grad()
        material.losses(denoiser, None, decoder)(pictures_alone)["loss"].backward()
        return float(denoiser.unet.conv_out.weight.grad.abs().sum())

    assert gradient() > 0
    for weight in decoder.parameters():
        weight.zero_()
    assert gradient() == 0, "the autoencoder shows nothing any more"
