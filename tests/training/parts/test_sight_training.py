"""Training of the sight of the gallery: it alone, and on frames as far off as those of strangers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.checkpoint import load_checkpoint, load_directory, save_checkpoint
from mcdm_core.config import TINY
from mcdm_core.errors import MCDMError, WeightsError
from mcdm_core.face.parts import EYES, MOUTH
from mcdm_core.models.inputs.gallery import Gallery
from mcdm_core.models.part_decoder import PartDecoder
from mcdm_core.pipeline import preset_weights
from mcdm_core.training.parts.stage import PartRun, continue_part_decoder, load_part_decoder
from mcdm_core.training.sight.strangers import (
    ALONE_SHARE,
    FEW_SHARE,
    as_of_strangers,
    further_off,
    less_seen,
    wrong_colours,
)
from mcdm_core.training.sight.train import SIGHT, train_sight

from .spotted_clips import write_spotted_clip

WEIGHTS = preset_weights("tiny")
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")


def lips_open(by: float, number: int) -> torch.Tensor:
    """Contours ``[number, 1, 48]`` of lips in the middle, open by so much."""
    turn = torch.linspace(0, 2 * torch.pi, 13)[:12]
    lips = [torch.stack([0.5 + 0.25 * turn.cos(), 0.5 + height * turn.sin()], -1) for height in (0.1 + by, by)]
    return torch.stack(lips).flatten().expand(number, 1, -1)


@needs_weights
def test_a_decoder_without_a_gallery_gets_a_sight_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_spotted_clip(tmp_path / split)
    config, states, _ = load_checkpoint(WEIGHTS)
    earlier = {k: v for k, v in states["part_decoder"].items() if not k.startswith("pictures.")}
    blind = dataclasses.replace(config, part_decoder=dataclasses.replace(config.part_decoder, gallery=0))
    model = tmp_path / "earlier.safetensors"
    save_checkpoint(model, {**states, "part_decoder": earlier}, blind)
    decoder = load_part_decoder(model, TINY, "cpu")
    assert decoder is not None and decoder.pictures is None
    wider = dataclasses.replace(TINY.part_decoder, block_channels=(40, 64, 128))
    with pytest.raises(WeightsError, match=r"earlier\.safetensors does not hold the network 'part_decoder'"):
        continue_part_decoder(PartDecoder(dataclasses.replace(TINY, part_decoder=wider)), model)
    output = tmp_path / "run" / "part_decoder_sight.safetensors"
    run = PartRun([tmp_path / "train"], [tmp_path / "val"], model, model, output)
    run = dataclasses.replace(run, start_from=model, refine=model, steps=2, validate_every=10**6)
    recipe = dataclasses.replace(SIGHT, clips=1, frames=4)
    assert "reading" in train_sight(recipe, run).losses, "painted lips are read"
    state = load_file(str(output))
    assert all(torch.allclose(state[name], value.float(), atol=1e-6) for name, value in earlier.items())
    assert state["pictures.query.weight"].abs().sum() > 0 and state["pictures.gates.weight"].abs().sum() > 0
    found = load_directory(output.parent)
    assert found.config.part_decoder == TINY.part_decoder
    assert found.states["part_decoder"].keys() == PartDecoder(TINY).state_dict().keys()
    # Once it has a sight, that is gone on from: what is asked stays as it was fitted.
    more = dataclasses.replace(run, refine=output, output=tmp_path / "more.safetensors")
    train_sight(recipe, more)
    again = load_file(str(more.output))
    assert torch.allclose(again["pictures.query.weight"], state["pictures.query.weight"], atol=1e-6)
    assert not torch.equal(again["pictures.gates.weight"], state["pictures.gates.weight"])


def test_a_sight_needs_a_decoder_and_a_gallery(tmp_path: Path) -> None:
    run = PartRun([tmp_path], [tmp_path], WEIGHTS, WEIGHTS, tmp_path / "sight.safetensors", start_from=WEIGHTS)
    with pytest.raises(MCDMError, match="a decoder of its parts"):
        train_sight(SIGHT, run)
    none = dataclasses.replace(TINY, part_decoder=dataclasses.replace(TINY.part_decoder, gallery=0))
    with pytest.raises(MCDMError, match=r"part_decoder\.gallery is 0"):
        train_sight(SIGHT, dataclasses.replace(run, refine=WEIGHTS, config=none))


@needs_weights
def test_an_earlier_sight_is_left_out_and_the_model_paints_without(tmp_path: Path) -> None:
    config, states, _ = load_checkpoint(WEIGHTS)
    decoder = {k: v for k, v in states["part_decoder"].items() if not k.startswith(("pictures.down", "pictures.up"))}
    decoder["pictures.compare.weight"] = torch.zeros(32, 58, 3, 3)
    model = tmp_path / "earlier.safetensors"
    save_checkpoint(model, {**states, "part_decoder": decoder}, config)
    found = load_checkpoint(model)
    assert found.config.part_decoder == dataclasses.replace(TINY.part_decoder, gallery=0)
    PartDecoder(found.config).load_state_dict(found.states["part_decoder"])
    assert not continue_part_decoder(PartDecoder(TINY), model)


def test_errors_of_latents_are_enlarged_in_half_of_the_videos() -> None:
    torch.manual_seed(0)
    made, clean = torch.full((4000, 1, 1, 1, 1), 3.0), torch.full((4000, 1, 1, 1, 1), 2.0)
    error = (further_off(made, clean) - clean).flatten()
    assert 0.45 < float((error == 1).float().mean()) < 0.55
    assert float(error.min()) == 1.0 and 2.2 < float(error.max()) <= 2.3


def test_mouths_are_made_like_strangers_and_what_is_asked_with_them_and_eyes_stay() -> None:
    torch.manual_seed(0)
    own, true = torch.full((200, 1, 3, 32, 32), 0.2), torch.full((200, 1, 3, 32, 32), 0.1)
    queries = torch.full((200, 1, 12, 8, 8), 0.2)
    shown, asked = as_of_strangers(own, queries, true, lips_open(0.1, 200))
    assert torch.equal(shown[EYES::2], own[EYES::2]) and torch.equal(asked[EYES::2], queries[EYES::2])
    off, was = (shown - true)[MOUTH::2], (own - true)[MOUTH::2]
    assert float(off.square().mean()) > 1.5 * float(was.square().mean())
    # The question is wrong as the picture is: by the same mean colour.
    torch.testing.assert_close(asked[MOUTH::2].mean((2, 3, 4)), shown[MOUTH::2].mean((2, 3, 4)), rtol=0, atol=1e-5)


def test_the_opening_gets_a_colour_of_its_own() -> None:
    torch.manual_seed(0)
    wrong = wrong_colours(lips_open(0.15, 400), 32).square().mean((0, 1, 2))
    assert float(wrong[14:18, 14:18].mean()) > 1.6 * float(wrong[2:6, 2:6].mean())
    shut = wrong_colours(lips_open(0.0, 400), 32).square().mean((0, 1, 2))
    assert float(shut[14:18, 14:18].mean()) < 0.7 * float(wrong[14:18, 14:18].mean())


def test_many_galleries_hold_little_that_helps() -> None:
    torch.manual_seed(0)
    numbers = torch.arange(1.0, 9.0)
    seen = Gallery(numbers.view(1, 8, 1, 1, 1).expand(1600, 8, 3, 4, 4), numbers.view(1, 8, 1).expand(1600, 8, 48))
    portraits = Gallery(torch.zeros(1600, 1, 3, 4, 4), torch.zeros(1600, 1, 48))
    less = less_seen(seen, portraits)
    held = less.pictures[:, :, 0, 0, 0]
    assert torch.equal(less.shapes[:, :, 0], held), "each picture keeps its contours"
    different = torch.tensor([len(set(row.tolist())) for row in held])
    alone = (held == 0).all(1)
    for part in (MOUTH, EYES):
        own, few = alone[part::2].float().mean(), (~alone & (different <= 3))[part::2].float().mean()
        assert float(own) == pytest.approx(ALONE_SHARE[part], abs=0.05)
        assert float(few) == pytest.approx(FEW_SHARE[part], abs=0.05)
    assert set(different.tolist()) == {1, 2, 3, 8}
