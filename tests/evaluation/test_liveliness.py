"""Speed and range of heads, blinks a minute, what a seed changes: against motion that is known."""

from __future__ import annotations

import torch

from mcdm_core.evaluation.liveliness import blinks_a_minute, head_speed, spread_of_seeds


def test_a_head_that_moves_evenly_has_its_speed_and_lips_do_not_count() -> None:
    landmarks = torch.rand(1, 68, 2).repeat(50, 1, 1)
    still = landmarks.clone()
    still[:, :20] += torch.randn(50, 20, 2)
    assert float(head_speed(still)) < 1e-4
    moved = landmarks + torch.arange(50)[:, None, None] * torch.tensor([0.6, 0.8]) / 128
    assert abs(float(head_speed(moved, calm=1)) - 1.0) < 1e-3
    assert abs(float(head_speed(torch.stack([moved, still]), calm=1)[0]) - 1.0) < 1e-3


def test_trembling_is_no_movement() -> None:
    torch.manual_seed(0)
    trembling = torch.rand(1, 68, 2) + 0.004 * torch.randn(400, 1, 2)
    assert float(head_speed(trembling)) < 0.35 * float(head_speed(trembling, calm=1))


def test_blinks_are_counted_once_each() -> None:
    values = torch.zeros(250, 16)
    for start in (0, 60, 200):
        values[start : start + 4, 6:8] = 1.0
    assert blinks_a_minute(values, 25.0) == 18.0


def test_equal_seeds_have_no_spread() -> None:
    video = torch.rand(10, 68, 2)
    assert not spread_of_seeds(torch.stack([video, video])).any()
    assert torch.allclose(spread_of_seeds(torch.stack([video, video + 1 / 128])), torch.full((68,), 2**0.5), atol=1e-3)
