"""Training of the parts' decoder: on what the frozen denoiser paints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.checkpoint import component_state, load_checkpoint, load_directory, save_checkpoint
from mcdm_core.config import TINY
from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.errors import WeightsError
from mcdm_core.models.part_decoder import PartDecoder
from mcdm_core.models.vae import TinyAutoencoder
from mcdm_core.pipeline import preset_weights
from mcdm_core.training.parts.decoder import BEYOND, PART_DECODER, between_steps, train_part_decoder
from mcdm_core.training.parts.losses import LossWeights
from mcdm_core.training.parts.stage import (
    PartMaterial,
    PartRun,
    continue_part_decoder,
    load_denoiser,
    load_part_decoder,
)
from mcdm_core.training.parts.train import PARTS_STAGE_1, PARTS_STAGE_3_REFINED, train_parts
from mcdm_core.training.unet.denoiser import Denoiser

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


def _write_clip(folder: Path) -> None:
    """A clip of soft spots of colour, over which lips open and close."""
    spots = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 200
    smooth = torch.nn.functional.interpolate(spots, size=192, mode="bilinear")[0].movedim(0, -1)
    frames = smooth.numpy()[None].repeat(40, 0)
    across = np.linspace(0.3, 0.7, 68, dtype=np.float32)
    landmarks = np.stack([across, 0.5 + 0.2 * np.sin(np.arange(68, dtype=np.float32))], -1)[None].repeat(40, 0)
    landmarks[:, 16:20, 1] += 0.05 * np.abs(np.sin(np.arange(40) / 3, dtype=np.float32))[:, None]
    clip = {
        "frames": frames.astype(np.uint8),
        "landmarks": landmarks,
        "pose": np.zeros((40, 6), np.float32),
        "values": np.zeros((40, 16), np.float32),
        "audio": np.zeros(40 * 640, np.int16),
    }
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        writer.add(clip, {**dict.fromkeys(INFO_FIELDS, ""), "source": "real video", "fps": 25, "seed": 0, "index": 0})


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_it_learns_from_the_autoencoders_decoder_on_and_becomes_a_part_of_the_model(tmp_path: Path) -> None:
    for split in ("train", "val"):
        _write_clip(tmp_path / split)
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
    vae, begin = TinyAutoencoder(TINY), PartDecoder(TINY)
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
    assert found.config.part_decoder == TINY.part_decoder


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_a_decoder_without_a_gallery_gets_one_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        _write_clip(tmp_path / split)
    config, states, _ = load_checkpoint(WEIGHTS)
    earlier = {k: v for k, v in states["part_decoder"].items() if not k.startswith("pictures.")}
    blind = dataclasses.replace(config, part_decoder=dataclasses.replace(config.part_decoder, gallery=0))
    save_checkpoint(tmp_path / "earlier.safetensors", {**states, "part_decoder": earlier}, blind)
    model = tmp_path / "earlier.safetensors"
    assert load_part_decoder(model, TINY, "cpu").pictures is None
    wider = dataclasses.replace(TINY.part_decoder, block_channels=(40, 64, 128))
    with pytest.raises(WeightsError, match=r"earlier\.safetensors does not hold the network 'part_decoder'"):
        continue_part_decoder(PartDecoder(dataclasses.replace(TINY, part_decoder=wider)), model)
    run = PartRun([tmp_path / "train"], [tmp_path / "val"], model, model, tmp_path / "part_decoder.safetensors")
    run = dataclasses.replace(run, start_from=model, refine=model, steps=2, validate_every=10**6)
    recipe = dataclasses.replace(PART_DECODER, clips=1, frames=4)
    train_part_decoder(recipe, run)
    state = load_file(str(run.output))
    assert all(torch.allclose(state[name], value.float(), atol=1e-6) for name, value in earlier.items())
    assert state["pictures.query.weight"].abs().sum() > 0 and state["pictures.gates.weight"].abs().sum() > 0
    # What is asked was fitted: a rough picture of the frame, and no random one.
    decoder = PartDecoder(TINY)
    decoder.load_state_dict(state)
    assert float(decoder.pictures.log_sharpness.detach()) > 5


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_a_refined_painter_is_judged_by_what_the_models_own_decoder_shows(tmp_path: Path) -> None:
    _write_clip(tmp_path)
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
