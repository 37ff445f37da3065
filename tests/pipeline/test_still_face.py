"""The preview of a look: one frame, sampled as the first of a clip is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mcdm_core.motion.expression_schedule import ExpressionKey
from mcdm_core.pipeline.still_face import still_face


@pytest.fixture
def faces(pipe) -> Iterator[None]:
    """Named expressions that differ, in a model that has learnt none."""
    bank = pipe.model.motion_codec.expression_bank
    before = bank.clone()
    bank.normal_(generator=torch.Generator().manual_seed(3))
    yield
    bank.copy_(before)


@pytest.mark.usefixtures("faces")
def test_a_look_changes_the_face_and_its_time_does_not(pipe, reference) -> None:
    own = still_face(pipe, reference, ExpressionKey(0.0, "neutral", 0.0))
    happy = still_face(pipe, reference, ExpressionKey(0.0, "happy", 1.0))
    aside = still_face(pipe, reference, ExpressionKey(5.0, "neutral", 0.0, (("gaze_x", 1.0),)))
    assert own.shape == (3, 192, 192) and own.min() >= 0 and own.max() <= 1
    assert not torch.equal(own, happy) and not torch.equal(own, aside) and not torch.equal(happy, aside)
    assert torch.equal(aside, still_face(pipe, reference, ExpressionKey(0.0, "neutral", 0.0, (("gaze_x", 1.0),))))


def test_a_single_frame_is_sampled(pipe, reference, monkeypatch) -> None:
    seen = []
    paint = pipe.clips.canvas.paint

    def watched(reference, latents, places, memory):
        seen.append(latents.shape[1])
        return paint(reference, latents, places, memory)

    sizes = []
    unet = pipe.model.unet.forward
    monkeypatch.setattr(pipe.clips.canvas, "paint", watched)

    def counted(x, *rest, **how):
        sizes.append(x.shape[1])
        return unet(x, *rest, **how)

    monkeypatch.setattr(pipe.model.unet, "forward", counted)
    still_face(pipe, reference, ExpressionKey(0.0, "happy", 1.0))
    assert seen == [1] and set(sizes) == {1}
