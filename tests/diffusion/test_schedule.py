"""The noise schedule, against diffusers' and itself."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from mcdm_core.diffusion.schedule import NoiseSchedule, cosine_alphas_cumprod
from mcdm_core.errors import MCDMError


def scheduler(**options: object) -> DDIMScheduler:
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, **options)


def test_the_table_is_diffusers() -> None:
    assert torch.equal(cosine_alphas_cumprod(1000), scheduler().alphas_cumprod)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 3, 4, 25, 300])
def test_the_timesteps_are_diffusers(spacing: str, steps: int) -> None:
    reference = scheduler(timestep_spacing=spacing, steps_offset=1)
    reference.set_timesteps(steps)
    assert torch.equal(NoiseSchedule(1000, spacing=spacing).timesteps(steps), reference.timesteps.float())


def test_the_closed_form_follows_the_table() -> None:
    table, closed = NoiseSchedule(1000), NoiseSchedule(1000, continuous=True)
    t, like = torch.tensor([99.0, 250.0, 700.0]), torch.zeros(3, 1)
    # The table holds abar((t + 1) / 1000) over abar(0).
    for a, b in zip(table.alpha_sigma(t, like), closed.alpha_sigma(t + 1, like), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


@pytest.mark.parametrize("continuous", [True, False])
def test_signal_and_noise_keep_unit_variance(continuous: bool) -> None:
    schedule = NoiseSchedule(1000, continuous=continuous)
    alpha_t, sigma_t = schedule.alpha_sigma(torch.linspace(0, 999, 9), torch.zeros(9, 1))
    torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones(9, 1))
    clean, noise = torch.randn(9, 3), torch.randn(9, 3)
    noisy = schedule.add_noise(clean, noise, torch.linspace(0, 999, 9))
    torch.testing.assert_close(noisy, alpha_t * clean + sigma_t * noise)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(MCDMError, match="steps"):
        NoiseSchedule().timesteps(0)
    with pytest.raises(MCDMError, match="spacing"):
        NoiseSchedule(spacing="even")
