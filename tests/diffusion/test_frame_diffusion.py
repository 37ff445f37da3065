"""The diffusion of frames: sampling in closed form and against diffusers, and the variance of the warp."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler

from mcdm_core.config import BASE, MCDMConfig
from mcdm_core.diffusion.frame_diffusion import FrameDiffusion
from mcdm_core.diffusion.parameterization import posterior
from mcdm_core.diffusion.sampling import classifier_free_guidance, ddim_sample, ddim_step
from mcdm_core.errors import MCDMError

from ..whole_crop import WHOLE_CROP


def no_warp(config: MCDMConfig) -> MCDMConfig:
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, warped_reference=False, guide_channels=0))


def test_the_prior_residual_falls_back_to_velocity_without_a_warped_reference() -> None:
    assert FrameDiffusion(WHOLE_CROP).prediction_type == "prior_residual"
    assert FrameDiffusion(no_warp(WHOLE_CROP)).prediction_type == "v_prediction"
    assert FrameDiffusion(BASE).prediction_type == "epsilon"


@pytest.mark.parametrize("steps", [4, 25])
def test_sampling_with_epsilon_equals_diffusers_ddim(steps: int) -> None:
    torch.manual_seed(2)
    noise = torch.randn(1, 2, 4, 4, 4, dtype=torch.float64)
    reference = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=False, steps_offset=1
    )
    reference.set_timesteps(steps)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) + t / 1000

    expected = noise
    for t in reference.timesteps:
        expected = reference.step(network(expected, t), t, expected).prev_sample
    torch.testing.assert_close(FrameDiffusion(BASE).sample(network, noise, steps), expected, atol=1e-5, rtol=1e-5)


def test_a_perfect_denoiser_gives_the_truth_and_the_callback_counts() -> None:
    schedule, truth, seen = FrameDiffusion(WHOLE_CROP).schedule, torch.randn(1, 2, 12, 4, 4), []
    result = ddim_sample(
        lambda x, t: (truth, x), torch.randn_like(truth), schedule.timesteps(4), schedule, lambda *a: seen.append(a[:2])
    )
    assert torch.equal(result, truth) and seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_callback_may_stop_the_sampling() -> None:
    def stop(done: int, total: int, latents: torch.Tensor) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        FrameDiffusion(no_warp(WHOLE_CROP)).sample(lambda x, t: x, torch.zeros(1, 1, 12, 2, 2), 3, callback=stop)


def test_ddim_keeps_the_noise_of_the_present_sample() -> None:
    denoised, noise = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(
        ddim_step(denoised, noise, torch.tensor(0.8), torch.tensor(0.6)), 0.8 * denoised + 0.6 * noise
    )


def test_guidance_of_one_is_the_conditional_prediction() -> None:
    conditional, unconditional = torch.randn(2, 7)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 0.0), unconditional)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(MCDMError, match="warped"):
        FrameDiffusion(WHOLE_CROP).denoised(torch.zeros(1, 1, 12, 2, 2), torch.zeros(1, 1, 12, 2, 2), torch.tensor(5.0))
    for change, message in (({"prediction_type": "score"}, "score"), ({"prior_variance_terms": (1.0,)}, "five")):
        wrong = dataclasses.replace(WHOLE_CROP, diffusion=dataclasses.replace(WHOLE_CROP.diffusion, **change))
        with pytest.raises(MCDMError, match=message):
            FrameDiffusion(wrong)


def test_sampling_at_temperature_zero_finds_the_mean_of_a_gaussian() -> None:
    """Closed form: with the exact denoiser of N(m, v), x_0 has mean m and deviation temperature times sqrt(v)."""
    mean, variance = 0.7, 0.25
    for temperature in (0.0, 0.5, 1.0):
        settings = dataclasses.replace(WHOLE_CROP.diffusion, temperature=temperature)
        config = dataclasses.replace(WHOLE_CROP, diffusion=settings)
        diffusion = FrameDiffusion(no_warp(config))

        def velocity(x: torch.Tensor, t: torch.Tensor, diffusion: FrameDiffusion = diffusion) -> torch.Tensor:
            alpha, sigma = diffusion.schedule.alpha_sigma(t, x)
            return (alpha * x - posterior(x, torch.full_like(x, mean), alpha, sigma, variance)[0]) / sigma

        noise = torch.randn(1, 4, 12, 16, 16, generator=torch.Generator().manual_seed(0))
        result = diffusion.sample(velocity, noise, 200)
        assert abs(float(result.mean()) - mean) < 0.02
        assert abs(float(result.std()) - temperature * variance**0.5) < 0.02


def test_the_prior_s_variance_follows_the_guide() -> None:
    terms = (0.1, 0.5, 0.25, 0.0, 2.0)
    diffusion = dataclasses.replace(WHOLE_CROP.diffusion, prior_variance_terms=terms)
    fd = FrameDiffusion(dataclasses.replace(WHOLE_CROP, diffusion=diffusion))
    guide = torch.zeros(1, 1, 26, 8, 8)
    guide[0, 0, 14 + 2, 1, 1] = 1.0
    guide[0, 0, 18 + 1, 2, 2] = 1.0
    guide[0, 0, :12, 5, 5], guide[0, 0, 12, 5, 5] = 0.9, 0.5
    variance = fd.variance_of(guide)[0, 0, 0]
    seen = variance[[0, 1, 2, 5], [0, 1, 2, 5]]
    torch.testing.assert_close(seen, torch.tensor([0.1, 0.6, 0.35, 0.1 + 2 * 0.8**2 * 0.5]))
    x0, noise, t = torch.randn(1, 1, 12, 8, 8), torch.randn(1, 1, 12, 8, 8), torch.tensor([400.0])
    noisy = fd.add_noise(x0, noise, t)
    target = fd.target(x0, noise, t, guide)
    torch.testing.assert_close(fd.target_at(x0, noisy, t, guide), target, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fd.denoised(target, noisy, t, guide), x0, atol=1e-4, rtol=1e-4)


def test_frames_share_their_noise_where_the_configuration_says_so() -> None:
    like = torch.zeros(2, 5, 12, 4, 4)
    apart = FrameDiffusion(WHOLE_CROP).draw_noise(like, torch.Generator().manual_seed(1))
    assert (apart[:, 0] - apart[:, 1]).abs().mean() > 0.5
    shared = dataclasses.replace(WHOLE_CROP, diffusion=dataclasses.replace(WHOLE_CROP.diffusion, shared_noise=True))
    noise = FrameDiffusion(shared).draw_noise(like, torch.Generator().manual_seed(1))
    assert noise.shape == like.shape and torch.equal(noise[:, :1].expand_as(noise), noise)
    assert (noise[0] - noise[1]).abs().mean() > 0.5, "videos differ"
    assert abs(float(noise.std()) - 1) < 0.15
    again = FrameDiffusion(shared).draw_noise(like[:, :2], torch.Generator().manual_seed(1))
    assert torch.equal(again, noise[:, :2]), "a shorter clip goes on with the same"
