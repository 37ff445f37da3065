import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler

from mcdm_core.config import BASE, TINY
from mcdm_core.diffusion.schedule import NoiseSchedule, ddim_step, precondition, sample_clip, to_x0, training_target
from mcdm_core.errors import MCDMError


def no_warp(config):
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, warped_reference=False, guide_channels=0))


def test_the_prior_residual_falls_back_to_velocity_without_a_warped_reference():
    assert NoiseSchedule(TINY).kind == "prior_residual"
    assert NoiseSchedule(no_warp(TINY)).kind == "v_prediction"
    assert NoiseSchedule(BASE).kind == "epsilon"


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "prior_residual"])
def test_to_x0_inverts_the_training_target(kind):
    torch.manual_seed(0)
    x0, noise, mean = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    a = torch.tensor(0.3, dtype=torch.float64)
    s = (1 - a**2).sqrt()
    x = a * x0 + s * noise
    target = training_target(x0, noise, x, a, s, kind, mean)
    torch.testing.assert_close(to_x0(target, x, a, s, kind, mean), x0)


def test_precondition_is_the_gaussian_posterior():
    """Against Bayes' rule on a fine grid of x_0."""
    variance, w, a, s, x = 0.36, 0.7, 0.4, (1 - 0.16) ** 0.5, -0.2
    grid = torch.linspace(-6, 6, 40_001, dtype=torch.float64)
    log = -((grid - w) ** 2) / (2 * variance) - (x - a * grid) ** 2 / (2 * s**2)
    density = torch.softmax(log, 0)
    mean = (density * grid).sum()
    deviation = (density * (grid - mean) ** 2).sum().sqrt()
    number = [torch.tensor(v, dtype=torch.float64) for v in (x, w, a, s)]
    found = precondition(*number, variance)
    torch.testing.assert_close(found[0], mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[1], deviation, atol=1e-5, rtol=1e-5)


def test_the_residual_target_has_unit_variance_at_every_noise_level():
    torch.manual_seed(1)
    mean = torch.randn(20_000)
    x0 = mean + 0.6 * torch.randn(20_000)
    for a in (0.02, 0.5, 0.95):
        a = torch.tensor(a)
        s = (1 - a**2).sqrt()
        noise = torch.randn(20_000)
        target = training_target(x0, noise, a * x0 + s * noise, a, s, "prior_residual", mean, 0.36)
        assert abs(target.std().item() - 1) < 0.03 and abs(target.mean().item()) < 0.03


@pytest.mark.parametrize("steps", [4, 25])
def test_sampling_with_epsilon_equals_diffusers_ddim(steps):
    torch.manual_seed(2)
    schedule = NoiseSchedule(BASE)
    noise = torch.randn(1, 2, 4, 4, 4, dtype=torch.float64)
    reference = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, steps_offset=1,
        set_alpha_to_one=True,
    )  # fmt: skip
    reference.set_timesteps(steps)

    def network(x, t):
        return torch.tanh(x) + t / 1000

    expected = noise
    for t in reference.timesteps:
        expected = reference.step(network(expected, t), t, expected).prev_sample
    timesteps = schedule.timesteps(steps)
    torch.testing.assert_close(timesteps, reference.timesteps.float())
    result = sample_clip(
        lambda x, t: schedule.estimate(network(x, t), x, t), noise, timesteps, schedule
    )  # fmt: skip
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_the_closed_form_follows_diffusers_table():
    table, closed = NoiseSchedule(BASE), NoiseSchedule(TINY)
    t, like = torch.tensor([99.0, 250.0, 700.0]), torch.zeros(3, 1)
    # The table holds abar((t + 1) / 1000) over abar(0).
    for a, b in zip(table.signal_and_noise(t, like), closed.signal_and_noise(t + 1, like), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)
    a, s = closed.signal_and_noise(torch.linspace(0, 999, 9), torch.zeros(9, 1))
    torch.testing.assert_close(a**2 + s**2, torch.ones(9, 1))


def test_a_perfect_denoiser_gives_the_truth_and_the_callback_counts():
    schedule = NoiseSchedule(TINY)
    truth = torch.randn(1, 2, 12, 4, 4)
    seen = []
    result = sample_clip(
        lambda x, t: truth, torch.randn_like(truth), schedule.timesteps(4), schedule, lambda *a: seen.append(a[:2])
    )
    assert torch.equal(result, truth) and seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_callback_may_stop_the_sampling():
    schedule = NoiseSchedule(TINY)

    def stop(done, total, latents):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample_clip(lambda x, t: x, torch.zeros(1, 1, 12, 2, 2), schedule.timesteps(3), schedule, stop)


def test_ddim_keeps_the_noise_of_the_present_sample():
    x0, noise = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    a, s, a2, s2 = (torch.tensor(v, dtype=torch.float64) for v in (0.6, 0.8, 0.8, 0.6))
    torch.testing.assert_close(ddim_step(a * x0 + s * noise, x0, a, s, a2, s2), a2 * x0 + s2 * noise)


def test_bad_requests_are_refused():
    with pytest.raises(MCDMError, match="steps"):
        NoiseSchedule(TINY).timesteps(0)
    with pytest.raises(MCDMError, match="warped"):
        schedule = NoiseSchedule(TINY)
        schedule.estimate(torch.zeros(1, 1, 12, 2, 2), torch.zeros(1, 1, 12, 2, 2), torch.tensor(5.0))
    wrong = dataclasses.replace(TINY, diffusion=dataclasses.replace(TINY.diffusion, prediction_type="score"))
    with pytest.raises(MCDMError, match="score"):
        NoiseSchedule(wrong)


def test_sampling_at_temperature_zero_finds_the_mean_of_a_gaussian():
    """Closed form: with the exact denoiser of N(m, v), x_0 has mean m and deviation temperature times sqrt(v)."""
    mean, variance = 0.7, 0.25
    for temperature in (0.0, 0.5, 1.0):
        config = dataclasses.replace(TINY, diffusion=dataclasses.replace(TINY.diffusion, temperature=temperature))
        schedule = NoiseSchedule(config)

        def denoise(x, t, schedule=schedule):
            a, s = schedule.signal_and_noise(t, x)
            return precondition(x, torch.full_like(x, mean), a, s, variance)[0]

        noise = torch.randn(1, 4, 12, 16, 16, generator=torch.Generator().manual_seed(0))
        result = sample_clip(denoise, noise, schedule.timesteps(200), schedule)
        assert abs(float(result.mean()) - mean) < 0.02
        assert abs(float(result.std()) - temperature * variance**0.5) < 0.02


def test_the_prior_s_variance_follows_the_guide():
    terms = (0.1, 0.5, 0.25, 0.0, 2.0)
    diffusion = dataclasses.replace(TINY.diffusion, prior_variance_terms=terms)
    schedule = NoiseSchedule(dataclasses.replace(TINY, diffusion=diffusion))
    guide = torch.zeros(1, 1, 26, 8, 8)
    guide[0, 0, 14 + 2, 1, 1] = 1.0
    guide[0, 0, 18 + 1, 2, 2] = 1.0
    guide[0, 0, :12, 5, 5], guide[0, 0, 12, 5, 5] = 0.9, 0.5
    variance = schedule.variance_of(guide)[0, 0, 0]
    seen = variance[[0, 1, 2, 5], [0, 1, 2, 5]]
    torch.testing.assert_close(seen, torch.tensor([0.1, 0.6, 0.35, 0.1 + 2 * 0.8**2 * 0.5]))
    x0, noise, t = torch.randn(1, 1, 12, 8, 8), torch.randn(1, 1, 12, 8, 8), torch.tensor([400.0])
    noisy = schedule.add_noise(x0, noise, t)
    target = schedule.target(x0, noise, t, guide)
    torch.testing.assert_close(schedule.target_at(x0, noisy, t, guide), target, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(schedule.estimate(target, noisy, t, guide), x0, atol=1e-4, rtol=1e-4)
