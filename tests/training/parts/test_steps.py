"""The second of two steps is trained on what sampling hands it, and the critic's say is in proportion."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mcdm_core.config import TINY
from mcdm_core.diffusion.frame_diffusion import FrameDiffusion
from mcdm_core.training.adversary import Adversary, balanced_weight
from mcdm_core.training.parts.losses import seam_loss
from mcdm_core.training.parts.steps import Conditions, Memory, Step, StepShares, TrainingSteps
from mcdm_core.training.perceptual import PerceptualDistance


def conditions() -> Conditions:
    draw = torch.Generator().manual_seed(1)
    channels, side = TINY.unet.latent_channels, TINY.unet.latent_size
    guide = torch.rand(2, 3, TINY.unet.guide_channels, side, side, generator=draw)
    clip = torch.randn(2, 3, channels, side, side, generator=draw)
    return Conditions(clip, clip[:, 0], torch.zeros(2, 3, 8, 64), guide)


class Recorder:
    """A denoiser that halves its input, adds the carried memory, and writes down what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, float, Memory | None]] = []

    def __call__(self, x: Tensor, timestep: Tensor, given: Conditions, memory: Memory | None) -> tuple[Tensor, Memory]:
        self.seen.append((x, float(timestep[0]), memory))
        shift = 0.0 if memory is None else memory["m"].mean()
        return x / 2 + given.still[:, None] + shift, {"m": torch.full((1,), float(len(self.seen)))}


def sampled(given: Conditions, begin: Tensor) -> list[Tensor]:
    """The inputs of the two steps that :class:`FrameDiffusion` samples with."""
    diffusion, recorder = FrameDiffusion(dataclasses.replace(TINY)), Recorder()
    inputs: list[Tensor] = []

    def predict(x: Tensor, timestep: Tensor) -> Tensor:
        inputs.append(x)
        estimate, _ = recorder(x, timestep.expand(2), given, None)
        # The network's output that means this estimate.
        return diffusion.target_at(estimate, x, timestep.expand(2), given.guide)

    diffusion.sample(predict, begin / diffusion.temperature, 2, given.guide)
    return inputs


def test_the_second_step_is_shown_what_sampling_hands_it() -> None:
    torch.manual_seed(0)
    given, recorder = conditions(), Recorder()
    steps = TrainingSteps(FrameDiffusion(TINY), recorder)
    begin = steps.begin(given.archived)
    first, second = sampled(given, begin)
    x, timestep, memory = steps.shown(Step.SECOND, given.archived, begin, given)
    torch.testing.assert_close(x, second, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(recorder.seen[0][0], first)
    assert memory is None
    assert timestep.tolist() == [pytest.approx(499.5)] * 2
    assert (x - steps.diffusion.add_noise(given.archived, begin, timestep)).abs().mean() > 0.1


def test_each_step_reads_the_memory_of_its_own() -> None:
    given, recorder = conditions(), Recorder()
    steps = TrainingSteps(FrameDiffusion(TINY), recorder)
    begin = steps.begin(given.archived)
    _, carried = steps.sample(Step.SECOND, begin, given)
    assert [float(m["m"]) for m in carried if m is not None] == [1, 2]
    _, _, memory = steps.shown(Step.SECOND, given.archived, begin, given, carried)
    assert recorder.seen[-1][2] is carried[0]
    assert memory is carried[1]
    without, _, _ = steps.shown(Step.SECOND, given.archived, begin, given)
    with_memory, _, _ = steps.shown(Step.SECOND, given.archived, begin, given, carried)
    assert (with_memory - without).abs().mean() > 0.1


def test_shares_are_kept_and_the_temperature_is_of_a_clip() -> None:
    picks = [StepShares(0.3, 0.5).pick(chance / 1000) for chance in range(1000)]
    assert [picks.count(step) for step in Step] == [300, 500, 200]
    torch.manual_seed(0)
    begin = TrainingSteps(FrameDiffusion(TINY), Recorder()).begin(torch.zeros(64, 2, 12, 12, 12))
    spread = begin.std((1, 2, 3, 4))
    assert 0.45 < float(spread.min()) < 0.6
    assert 0.8 < float(spread.max()) < 0.95
    assert torch.equal(begin[:, 0], begin[:, 1])


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_reward_weighs_its_share_whatever_its_size(share: float) -> None:
    pictures = torch.rand(2, 3, 8, 8, requires_grad=True)
    others, reward = (pictures - 0.5).square().sum(), 1e4 * pictures.sin().sum()
    weight = balanced_weight(reward, others, pictures, share)
    (of_reward,) = torch.autograd.grad(weight * reward, pictures, retain_graph=True)
    (of_others,) = torch.autograd.grad(others, pictures)
    torch.testing.assert_close(of_reward.norm(), share * of_others.norm())


def test_critics_of_features_tell_noise_from_smooth_pictures() -> None:
    torch.manual_seed(0)
    adversary = Adversary(learning_rate=3e-3, regions=True, sight=PerceptualDistance())
    region = torch.ones(4, 1, 32, 32)
    kept = {key: value.clone() for key, value in adversary.modules.state_dict().items()}

    def pictures() -> tuple[Tensor, Tensor]:
        smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=32, mode="bilinear")
        return smooth * 2 - 1, (smooth + torch.randn(4, 3, 32, 32) * 0.3) * 2 - 1

    losses = [float(adversary.teach(*pictures(), region)) for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]
    assert any(not torch.equal(kept[key], value) for key, value in adversary.modules.state_dict().items())
    smooth, noisy = pictures()
    assert float(adversary.reward(noisy, noisy, region)) < float(adversary.reward(smooth, smooth, region))


def test_a_seam_is_a_change_of_the_error_and_only_between_sequels() -> None:
    torch.manual_seed(0)
    error, other, weight = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.ones(2, 1, 3, 3)
    everywhere, first = torch.ones(2), torch.tensor([1.0, 0.0])
    assert float(seam_loss(error, error, weight, everywhere)) == 0
    torch.testing.assert_close(seam_loss(error, other, weight, first), (error[0] - other[0]).square().mean())
    assert float(seam_loss(error, other, weight, torch.zeros(2))) == 0
