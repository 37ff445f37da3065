"""The Face Editor's sliders as a look, and the faces kept for them."""

from __future__ import annotations

import gc
import importlib
from typing import Any

import pytest
import torch

from .fixtures import pack_module

looks = pack_module("comfy.page.looks")
live_faces = pack_module("comfy.page.live_faces")
NodeRun = pack_module("comfy.page.node_run").NodeRun
core = "mcdm_pack_under_test.mcdm_core"
ExpressionKey = importlib.import_module(f"{core}.motion.expression_schedule").ExpressionKey
BY_HAND = importlib.import_module(f"{core}.motion.expression_schedule").BY_HAND


def test_every_trait_of_the_core_has_a_slider() -> None:
    assert list(looks.TRAITS) == list(BY_HAND)


def test_sliders_become_a_look() -> None:
    look = looks.look_of({"expression": "happy", "strength": 0.8, "gaze_x": -0.35, "brows": 0.0, "seconds": 2.5})
    assert look == ExpressionKey(2.5, "happy", 0.8, (("gaze_x", -0.35),))
    assert looks.look_of({}) == ExpressionKey(0.0, "neutral", 0.0)


WRONG = [None, 3, {"smile": "x"}, {"smile": 7}, {"expression": "x, 1 happy"}, {"eyes": None}]


@pytest.mark.parametrize("values", WRONG)
def test_what_no_slider_gives_is_refused(values: Any) -> None:
    with pytest.raises(ValueError):
        looks.look_of(values)


class Model:
    """In place of a loaded model."""

    def ready(self) -> str:
        return "a pipeline"


def test_faces_are_kept_as_long_as_their_model_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    still_face = importlib.import_module(f"{core}.pipeline.still_face")
    monkeypatch.setattr(still_face, "still_face", lambda pipe, reference, look: torch.full((3, 2, 2), reference))
    faces, model = live_faces.LiveFaces(kept=2), Model()
    for number in range(3):
        faces.keep(NodeRun(str(number), "a workflow"), model, number / 4)
    assert [faces.knows("a workflow", str(number)) for number in range(3)] == [False, True, True]
    assert not faces.knows("another", "1")
    assert float(faces.picture("a workflow", "2", None)[0, 0, 0]) == 0.5
    del model
    gc.collect()
    with pytest.raises(ValueError, match="Run the workflow"):
        faces.picture("a workflow", "2", None)
