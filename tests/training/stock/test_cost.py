"""What a stage costs, counted without computing it."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from mcdm_core import config
from mcdm_core.__main__ import main
from mcdm_core.config import PRESETS
from mcdm_core.models.present_clip_prior import PresentClipPrior
from mcdm_core.training.stock.cost import GPUS, codec_cost, cost_table, prior_cost, stage_cost, stage_costs
from mcdm_core.training.stock.train import StockCodecRecipe, StockRecipe

from .narrow import NARROW

KEPT = StockRecipe(checkpointing=False)


def test_operations_are_those_of_the_layers() -> None:
    cost = stage_cost(NARROW, 3, KEPT)
    longer = stage_cost(dataclasses.replace(NARROW, clip_frames=8), 3, KEPT)
    assert longer.encoding / cost.encoding == pytest.approx(17 / 9)
    assert 1.9 < longer.forward / cost.forward < 2.6  # all but the archive's share twice, temporal attention more
    whole = stage_cost(NARROW, 3, dataclasses.replace(KEPT, backbone=True))
    # A layer that trains takes its forward operations once for what enters and once for its weights.
    assert 2.7 < whole.training / whole.forward <= 3.05
    assert cost.training < whole.training and cost.trained < whole.trained == whole.values


def test_recomputing_trades_operations_for_memory() -> None:
    kept, again = (stage_cost(NARROW, 3, dataclasses.replace(KEPT, checkpointing=on)) for on in (False, True))
    assert again.training == kept.training + kept.forward
    assert again.activations < 0.6 * kept.activations and again.fixed == kept.fixed


def test_moments_of_eight_bits_take_a_quarter() -> None:
    usual, small = (stage_cost(NARROW, 3, dataclasses.replace(KEPT, eight_bit=on)) for on in (False, True))
    assert usual.fixed - small.fixed == 6 * usual.trained and small.activations == usual.activations


def test_more_gpus_take_fewer_hours() -> None:
    pytest.importorskip("transformers", reason="counts CLIP and Wav2Vec")
    rows = cost_table(stage_costs(NARROW, KEPT, StockCodecRecipe()), (1, 4))
    assert {row["stage"] for row in rows} == {"codec", "unet1", "prior", "unet3"}
    for one, four in zip(rows[::2], rows[1::2], strict=True):
        assert four["gigabytes"] <= one["gigabytes"] and four["hours"] <= one["hours"]


def test_the_small_preset_fits_its_gpu() -> None:
    pytest.importorskip("transformers", reason="counts CLIP and Wav2Vec")
    from mcdm_core.training.stock.train import RECIPES

    recipe = RECIPES["small"]
    costs = stage_costs(PRESETS["small"], recipe, StockCodecRecipe())
    assert recipe.backbone and costs["unet1"].trained > costs["unet3"].trained  # which leaves the UNet's own weights
    rows = cost_table(costs, (1,))
    assert all(row["fits"] for row in rows if "12 GB" in row["gpu"])


def test_stage_2_is_the_prior_behind_frozen_encoders() -> None:
    pytest.importorskip("transformers", reason="counts CLIP and Wav2Vec")
    cost = prior_cost(NARROW, KEPT)
    assert cost.trained == sum(p.numel() for p in PresentClipPrior(NARROW).parameters()) == cost.values
    assert 2.7 < cost.training / cost.forward <= 3.05
    # CLIP's ViT-L takes some 0.16 TFLOP a picture of 224 pixels; Wav2Vec hears two seconds and more beside it.
    assert 0.16e12 < cost.encoding < 0.4e12
    deeper = dataclasses.replace(NARROW.present_clip_prior, num_layers=2 * NARROW.present_clip_prior.num_layers)
    twice = prior_cost(dataclasses.replace(NARROW, present_clip_prior=deeper), KEPT)
    assert 1.8 < twice.forward / cost.forward < 2.05 and twice.encoding == cost.encoding
    assert 1.8 < twice.activations / cost.activations < 2.1


def test_the_codec_is_counted_by_couples_in_float32() -> None:
    one, two = (codec_cost(NARROW, StockCodecRecipe(couples=n, quadruples=n // 4)) for n in (16, 32))
    assert one.training == pytest.approx(two.training) and one.activations == pytest.approx(two.activations, rel=1e-2)
    assert one.recipe.batch == 16 and 2.5 < one.training / one.forward <= 3.05
    gpu = GPUS["A100 80 GB"]
    half = dataclasses.replace(one, recipe=dataclasses.replace(one.recipe, bfloat16=True))
    assert one.hours(gpu, 0.35, 1) / half.hours(gpu, 0.35, 1) == pytest.approx(gpu.bfloat16 / gpu.float32)


def test_without_their_packages_the_encoders_are_not_counted(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert list(stage_costs(NARROW, KEPT, StockCodecRecipe())) == ["codec", "unet1", "unet3"]
    assert "stage 2 (prior) is not counted" in caplog.text


def test_the_command_tells_all_stages(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="counts CLIP and Wav2Vec")
    monkeypatch.setitem(config.PRESETS, "small", NARROW)
    assert main(["plan", "--preset", "small", "--gpus", "8"]) == 0
    told = capsys.readouterr().out
    assert all(told.count(f"\n{stage:>5} ") == len(GPUS) for stage in ("codec", "unet1", "prior", "unet3"))


def test_a_measured_step_tells_the_hours_here(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = codec_cost(NARROW, StockCodecRecipe())
    (row,) = [row for row in cost_table({"codec": cost}, (1,), 0.35, measured=1e-3) if "here" in row["gpu"]]
    samples = cost.recipe.steps * cost.recipe.batch
    assert row["fits"] and row["hours"] == pytest.approx(samples * cost.training / 1e9 / 3600, abs=0.05)
    monkeypatch.setitem(config.PRESETS, "small", NARROW)
    monkeypatch.setattr("mcdm_core.training.stock.cost.measured_tflops", lambda *_: 2.0)
    assert main(["plan", "--preset", "small", "--gpus", "1", "--measure"]) == 0
