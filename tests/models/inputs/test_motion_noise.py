"""Noise of motion diffusion: likeness from frame to frame, strength by stream."""

from __future__ import annotations

import torch

from mcdm_core.config import TINY
from mcdm_core.models.inputs.motion_noise import by_stream, motion_noise


def test_correlated_noise_has_unit_variance_in_every_frame_and_the_correlation_asked_for() -> None:
    correlation = torch.tensor([[0.97], [0.0], [0.6]])
    noise = motion_noise((6000, 8, 3, 4), correlation, torch.Generator().manual_seed(0))
    assert torch.allclose(noise.var((0, 3)), torch.ones(8, 3), atol=0.04)
    lag = (noise[:, 1:] * noise[:, :-1]).mean((0, 1, 3))
    assert torch.allclose(lag, correlation[:, 0], atol=0.02)
    assert torch.allclose((noise[:, 3:] * noise[:, :-3]).mean((0, 1, 3)), correlation[:, 0] ** 9, atol=0.02)


def test_without_correlation_it_is_the_paper_s_white_noise() -> None:
    made = motion_noise((2, 5, 3, 4), torch.zeros(3, 1), torch.Generator().manual_seed(3))
    assert torch.equal(made, torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(3)))


def test_three_numbers_become_one_for_each_token() -> None:
    assert by_stream((1.0, 2.0, 3.0), TINY.motion_codec)[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
