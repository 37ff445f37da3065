"""A small critic of decoded mouths and eyes: what a regression blurs (teeth, lashes), it makes the denoiser decide.

A choice of ours beside the paper (C), for ``tiny`` only: the regression of a blurred mean is the
right answer to a squared error, but not a picture of teeth. The critic sees the decoded cuts of the pixel loss and the
true ones; the denoiser is rewarded for cuts the critic takes for true ones (hinge loss, Lim and Ye 2017) and for
features like those of its own true cut (Wang et al. 2018), which ties it to the right picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class CutCritic(nn.Module):
    """Judge overlapping patches of cuts: ``[n, 3, h, w]`` to scores ``[n, 1, h / 4, w / 4]`` and features."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(3, width, 4, 2, 1)),
                spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
                spectral_norm(nn.Conv2d(2 * width, 3 * width, 3, 1, 1)),
            ]
        )
        self.score = spectral_norm(nn.Conv2d(3 * width, 1, 3, 1, 1))

    def forward(self, cuts: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores and the features of every layer."""
        features = []
        for layer in self.layers:
            cuts = functional.leaky_relu(layer(cuts), 0.2)
            features.append(cuts)
        return self.score(cuts), features


class Adversary:
    """A critic with its own optimiser, trained on the cuts it judges.

    Args:
        learning_rate: of the critic.
        feature_weight: of the feature differences beside the hinge term.
    """

    def __init__(self, learning_rate: float = 4e-4, feature_weight: float = 4.0) -> None:
        self.critic = CutCritic()
        self.feature_weight = feature_weight
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def to(self, device: torch.device | str) -> Adversary:
        """Move the critic; before its first step."""
        self.critic.to(device)
        return self

    def teach(self, output: Tensor, target: Tensor) -> Tensor:
        """One step of the critic on decoded cuts and true ones, both ``[n, 3, h, w]``; its loss, detached."""
        score, _ = self.critic(torch.cat([output.detach(), target]))
        fake, real = score.float().chunk(2)
        loss = functional.relu(1 + fake).mean() + functional.relu(1 - real).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def reward(self, output: Tensor, target: Tensor) -> Tensor:
        """What the denoiser minimises: minus the critic's mean score, plus the weighted feature differences."""
        self.critic.requires_grad_(False)
        score, made = self.critic(output)
        with torch.no_grad():
            _, true = self.critic(target)
        self.critic.requires_grad_(True)
        apart = torch.stack([(a - b).abs().mean() for a, b in zip(made, true, strict=True)]).mean()
        return self.feature_weight * apart - score.mean()
