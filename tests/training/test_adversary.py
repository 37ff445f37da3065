"""The critic of pictures."""

from __future__ import annotations

import torch

from mcdm_core.training.adversary import Adversary


def test_the_critic_learns_to_tell_and_rewards_the_truth() -> None:
    torch.manual_seed(0)
    adversary = Adversary(learning_rate=2e-3)
    true, blurred = torch.randn(8, 3, 48, 48).clamp(-1, 1), torch.zeros(8, 3, 48, 48)
    first = float(adversary.teach(blurred, true))
    last = first
    for _ in range(30):
        last = float(adversary.teach(blurred, true))
    assert last < 0.7 * first
    assert adversary.reward(true, true) < adversary.reward(blurred, true)
    assert all(parameter.requires_grad for parameter in adversary.critic.parameters())
