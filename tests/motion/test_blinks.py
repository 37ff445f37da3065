"""Blinks: how often, how they close the lids, and that resuming does not change them."""

from __future__ import annotations

import torch

from mcdm_core.face.landmarks import LID_PAIRS, LIDS
from mcdm_core.motion.blinks import add_blinks, blink_curve, close_lids


def test_a_minute_has_fifteen_short_blinks() -> None:
    curve = blink_curve(3, 0, 1500, 25)
    closed = curve > 0.5
    begins = (closed[1:] & ~closed[:-1]).sum()
    assert 13 <= begins <= 16 and 0.02 < closed.float().mean() < 0.08
    assert curve.min() == 0 and curve.max() > 0.99


def test_resuming_blinks_at_the_same_time() -> None:
    whole = blink_curve(5, 0, 400, 25)
    for first in (1, 97, 200, 333):
        assert torch.equal(blink_curve(5, first, 400 - first, 25), whole[first:])
    assert not torch.equal(blink_curve(6, 0, 400, 25), whole)


def test_closed_lids_meet_and_the_rest_stays() -> None:
    landmarks = torch.rand(2, 68, 2)
    moved = close_lids(landmarks, torch.tensor([1.0, 0.0]))
    pairs = torch.tensor(LID_PAIRS).reshape(-1, 2)
    assert torch.allclose(moved[0, pairs[:, 0]], moved[0, pairs[:, 1]], atol=1e-6)
    assert torch.equal(moved[1], landmarks[1])
    others = torch.ones(68, dtype=torch.bool)
    others[LIDS] = False
    assert torch.equal(moved[:, others], landmarks[:, others])


def test_lids_that_are_closed_are_not_closed_twice() -> None:
    curve = blink_curve(0, 0, 100, 25)
    frame = int(curve.argmax())
    landmarks, values = torch.rand(1, 68, 2), torch.zeros(1, 16)
    values[:, 6:8] = 1
    same, after = add_blinks(landmarks, values, 0, frame, 25)
    assert torch.equal(same, landmarks) and torch.equal(after, values)
    moved, after = add_blinks(landmarks, values * 0, 0, frame, 25)
    assert not torch.equal(moved, landmarks) and after[0, 6] > 0.5
