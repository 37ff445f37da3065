"""What the network predicts: inverses, Bayes' rule, unit variance, and the prior's own form of the posterior."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.diffusion.parameterization import posterior, to_denoised, training_target
from mcdm_core.models.present_clip_prior import PresentClipPrior

from ..motion_fixtures import CONFIG


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "prior_residual"])
def test_to_denoised_inverts_the_training_target(kind: str) -> None:
    torch.manual_seed(0)
    x0, noise, mean = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    a = torch.tensor(0.3, dtype=torch.float64)
    s = (1 - a**2).sqrt()
    x = a * x0 + s * noise
    target = training_target(x0, noise, x, a, s, kind, mean, 0.36)
    torch.testing.assert_close(to_denoised(target, x, a, s, kind, mean, 0.36), x0)


def test_the_posterior_is_the_gaussian_posterior() -> None:
    """Against Bayes' rule on a fine grid of x_0."""
    variance, w, a, s, x = 0.36, 0.7, 0.4, (1 - 0.16) ** 0.5, -0.2
    grid = torch.linspace(-6, 6, 40_001, dtype=torch.float64)
    log = -((grid - w) ** 2) / (2 * variance) - (x - a * grid) ** 2 / (2 * s**2)
    density = torch.softmax(log, 0)
    mean = (density * grid).sum()
    deviation = (density * (grid - mean) ** 2).sum().sqrt()
    number = [torch.tensor(v, dtype=torch.float64) for v in (x, w, a, s)]
    found = posterior(*number, variance)
    torch.testing.assert_close(found[0], mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[1], deviation, atol=1e-5, rtol=1e-5)


def test_the_residual_target_has_unit_variance_at_every_noise_level() -> None:
    torch.manual_seed(1)
    mean = torch.randn(20_000)
    x0 = mean + 0.6 * torch.randn(20_000)
    for a in (0.02, 0.5, 0.95):
        a = torch.tensor(a)
        s = (1 - a**2).sqrt()
        noise = torch.randn(20_000)
        target = training_target(x0, noise, a * x0 + s * noise, a, s, "prior_residual", mean, 0.36)
        assert abs(target.std().item() - 1) < 0.03 and abs(target.mean().item()) < 0.03


def test_the_motion_prior_s_estimate_is_the_same_posterior() -> None:
    prior = PresentClipPrior(CONFIG)
    guess, out, noisy = torch.randn(3, 2, 4, 6, 8).unbind(0)
    time = torch.tensor([100, 800])
    alpha, sigma = prior.alpha_sigma(time, noisy)
    velocity = prior._around(guess, out, noisy, alpha**2)
    variance = CONFIG.present_clip_prior.prior_variance
    expected = to_denoised(out, noisy, alpha, sigma, "prior_residual", guess, variance)
    found = to_denoised(velocity, noisy, alpha, sigma, "v_prediction")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
