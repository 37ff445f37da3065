"""A painter whose training was stopped goes on with the clips that it would have been shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mcdm_core.pipeline import preset_weights
from mcdm_core.training.parts.batches import BatchDrawer, Drawn
from mcdm_core.training.parts.stage import PartRun
from mcdm_core.training.parts.train import PARTS_STAGE_1, train_parts

from .spotted_clips import write_spotted_clip
from .test_part_decoder_training import NARROW

WEIGHTS = preset_weights("tiny")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the tiny weights are not installed")
def test_a_stopped_painter_goes_on_drawing_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_spotted_clip(tmp_path)
    recipe = dataclasses.replace(PARTS_STAGE_1, clips=1, frames=2)
    shown: list[list[int]] = []
    draw = BatchDrawer.draw

    def seen(drawer: BatchDrawer, number: int) -> Drawn:
        drawn = draw(drawer, number)
        shown.append([*drawn.reference.tolist(), *drawn.target.flatten().tolist(), *drawn.archive.flatten().tolist()])
        return drawn

    def train(name: str, stop_at: int) -> list[list[int]]:
        shown.clear()
        run = PartRun([tmp_path], [tmp_path], WEIGHTS, WEIGHTS, tmp_path / f"{name}.safetensors", config=NARROW)
        run = dataclasses.replace(run, steps=4, validate_every=1, bfloat16=False)

        def stopped(drawer: BatchDrawer, number: int) -> Drawn:
            if len(shown) == stop_at:
                draw(drawer, number)  # stopped in a step: that one is taken again
                raise KeyboardInterrupt
            return seen(drawer, number)

        monkeypatch.setattr(BatchDrawer, "draw", stopped)
        monkeypatch.setattr("mcdm_core.training.parts.train.validate_parts", _drawing_validation)
        train_parts(recipe, run)
        return list(shown)

    whole = train("whole", -1)
    with pytest.raises(KeyboardInterrupt):
        train("parts", 2)
    assert len(whole) == 4 and train("parts", -1) == whole[2:]
    assert whole[0] != whole[2]


def _drawing_validation(*_: object, **__: object) -> dict[str, float]:
    """One that draws of NumPy's global source, as a loss may."""
    return {"drawn": float(np.random.random())}
