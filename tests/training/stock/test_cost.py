"""What a stage costs, counted without computing it."""

from __future__ import annotations

import dataclasses

import pytest

from mcdm_core.config import PRESETS
from mcdm_core.training.stock.cost import cost_table, stage_cost, stage_costs
from mcdm_core.training.stock.train import StockRecipe

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
    rows = cost_table(stage_costs(NARROW, KEPT), KEPT, (1, 4))
    assert {row["stage"] for row in rows} == {1, 3}
    for one, four in zip(rows[::2], rows[1::2], strict=True):
        assert four["gigabytes"] <= one["gigabytes"] and four["hours"] <= one["hours"]


def test_the_small_preset_fits_its_gpu() -> None:
    from mcdm_core.training.stock.train import RECIPES

    recipe = RECIPES["small"]
    costs = stage_costs(PRESETS["small"], recipe)
    assert recipe.backbone and costs[1].trained > costs[3].trained  # stage 3 leaves the UNet's own weights
    rows = cost_table(costs, recipe, (1,))
    assert all(row["fits"] for row in rows if "12 GB" in row["gpu"])
