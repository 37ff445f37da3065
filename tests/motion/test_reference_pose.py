"""Corrections for the portrait: the head comes back, open lips can close."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.face.landmarks import LIPS, lip_opening
from mcdm_core.motion.reference_pose import return_tokens, undo_resting_opening


def face(opening: float) -> torch.Tensor:
    """Landmarks [68, 2] of a schematic upright face with a mouth open by ``opening`` of the eye distance."""
    points = torch.full((68, 2), 0.5)
    points[20:28] = torch.tensor([0.4, 0.4])
    points[28:36] = torch.tensor([0.6, 0.4])
    points[36:46] = torch.tensor([0.5, 0.35])
    points[54] = torch.tensor([0.5, 0.8])
    x = torch.linspace(0.44, 0.56, 5)
    points[12:17] = torch.stack([x, torch.full((5,), 0.65)], -1)
    points[17:20] = torch.stack([x[1:4].flip(0), torch.full((3,), 0.65 + 0.2 * opening)], -1)
    return points


def test_an_open_portrait_can_close_its_mouth() -> None:
    open_portrait, frames = face(0.1), torch.stack([face(0.1), face(0.3), face(0.02)])
    moved = undo_resting_opening(frames, open_portrait)
    before, after = lip_opening(frames), lip_opening(moved)
    assert (after < before).all() and (after >= 0).all()
    assert after[1].item() == pytest.approx(0.23, abs=0.02)
    others = torch.ones(68, dtype=torch.bool)
    others[LIPS] = False
    assert torch.equal(moved[:, others], frames[:, others])


def test_what_the_codec_sees_of_the_opening_stays_its_own_business() -> None:
    frames = torch.stack([face(0.1), face(0.3)])
    assert torch.allclose(undo_resting_opening(frames, face(0.1), seen=0.09), frames)
    part = lip_opening(undo_resting_opening(frames, face(0.1), seen=0.05))
    assert part[1].item() == pytest.approx(0.27, abs=0.01)
    whole = undo_resting_opening(frames, face(0.1))
    assert torch.equal(undo_resting_opening(frames, face(0.1), seen=-0.2), whole)


def test_a_closed_portrait_is_left_alone() -> None:
    frames = torch.stack([face(0.2), face(0.0)])
    assert torch.allclose(undo_resting_opening(frames, face(0.01)), frames)


def test_the_head_comes_back_without_a_seam() -> None:
    head, still = torch.ones(16, 2, 4), torch.zeros(2, 4)
    back = return_tokens(head, still, 0.2)
    assert back[0].mean() > 0.98 and back[-1].mean().item() == pytest.approx(0.8)
    assert (back[1:] <= back[:-1]).all() and torch.equal(return_tokens(head, still, 0.0), head)
