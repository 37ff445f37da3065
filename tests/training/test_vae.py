"""Losses and measures of the autoencoder's training."""

from __future__ import annotations

import torch

from mcdm_core.training.vae.train import laplacian_loss, psnr


def test_decibels_are_those_of_the_squared_error() -> None:
    target = torch.zeros(2, 3, 4, 4)
    output = target + torch.tensor([0.2, 0.02]).view(-1, 1, 1, 1)
    # Of pictures in [-1, 1]: the peak is 2.
    torch.testing.assert_close(psnr(output, target), torch.tensor([20.0, 40.0]))


def test_the_laplacian_loss_sees_edges_and_not_a_shift_of_brightness() -> None:
    target = torch.zeros(1, 3, 16, 16)
    assert laplacian_loss(target + 0.3, target) < 1e-6
    fine = target.clone()
    fine[..., ::2, ::2], fine[..., 1::2, 1::2] = 0.3, -0.3
    coarse = target.clone()
    coarse[..., :8, :], coarse[..., 8:, :] = 0.3, -0.3
    # The finest level counts twice; a wide step lies in no level.
    assert laplacian_loss(fine, target) > 0.29 > 0.1 > laplacian_loss(coarse, target)
