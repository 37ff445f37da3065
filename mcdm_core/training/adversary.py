"""A small critic of decoded mouths and eyes: what a regression blurs (teeth, lashes), it makes the denoiser decide.

A choice of ours beside the paper (C), for ``tiny`` only. The regression of a blurred mean is the right answer to a
squared error, but not a picture of teeth. The critic sees the decoded cuts of the pixel loss and the true ones; the
denoiser is rewarded for cuts the critic takes for true ones (hinge loss, Lim and Ye 2017) and for features like those
of its own true cut (Wang et al. 2018), which ties it to the right picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .perceptual import region_weight


class CutCritic(nn.Module):
    """Judge overlapping patches of cuts: ``[n, channels, h, w]`` to scores ``[n, 1, h / 4, w / 4]`` and features."""

    def __init__(self, width: int = 32, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)),
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
        regions: the critic sees which region was painted, and judges there (:func:`~.perceptual.region_weight`).
    """

    def __init__(self, learning_rate: float = 4e-4, feature_weight: float = 4.0, regions: bool = False) -> None:
        self.critic = CutCritic(channels=4 if regions else 3)
        self.feature_weight = feature_weight
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def to(self, device: torch.device | str) -> Adversary:
        """Move the critic; before its first step."""
        self.critic.to(device)
        return self

    def teach(self, output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
        """One step of the critic on decoded cuts and true ones, both ``[n, 3, h, w]``; its loss, detached.

        ``region [n, 1, h, w]`` is what was painted, for a critic of regions.
        """
        score, _ = self.critic(torch.cat([_with_region(output.detach(), region), _with_region(target, region)]))
        fake, real = score.float().chunk(2)
        weight = _weight(region, fake)
        loss = (functional.relu(1 + fake) * weight).mean() + (functional.relu(1 - real) * weight).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def reward(self, output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
        """What the denoiser minimises: minus the critic's mean score, plus the weighted feature differences."""
        self.critic.requires_grad_(False)
        score, made = self.critic(_with_region(output, region))
        with torch.no_grad():
            _, true = self.critic(_with_region(target, region))
        self.critic.requires_grad_(True)
        pairs = zip(made, true, strict=True)
        apart = torch.stack([((a - b).abs() * _weight(region, a)).mean() for a, b in pairs]).mean()
        return self.feature_weight * apart - (score * _weight(region, score)).mean()


def _with_region(cuts: Tensor, region: Tensor | None) -> Tensor:
    return cuts if region is None else torch.cat([cuts, region * 2 - 1], 1)


def _weight(region: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(()) if region is None else region_weight(region, like)
