"""A small critic of decoded mouths and eyes: what a regression blurs (teeth, lashes), it makes the denoiser decide.

A choice of ours beside the paper (C), for ``tiny`` only. The regression of a blurred mean is the right answer to a
squared error, but not a picture of teeth. The critic sees the decoded cuts of the pixel loss and the true ones. The
denoiser is rewarded for cuts the critic takes for true ones (hinge loss, Lim and Ye 2017). Features like those of its
own true cut (Wang et al. 2018) tie it to the right picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .perceptual import PerceptualDistance, region_weight


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


class FeatureCritic(nn.Module):
    """Judges features of a frozen network that learnt to see (Sauer et al. 2021): harder to please by specks."""

    scale: Tensor

    def __init__(self, widths: Sequence[int], hidden: int = 48) -> None:
        super().__init__()
        self.heads = nn.ModuleList([self._head(width, hidden) for width in widths])
        self.register_buffer("scale", torch.zeros(len(widths)))

    @staticmethod
    def _head(width: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, 1, 3, padding=1),
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Scores ``[n, 1, h, w]`` of each map of features, by the size of the first ones it has seen."""
        if not bool(self.scale.any()):
            self.scale.copy_(torch.stack([x.detach().float().square().mean().sqrt() for x in features]))
        return [head(x / scale) for head, x, scale in zip(self.heads, features, self.scale, strict=True)]


class Adversary:
    """Critics with an optimiser of their own, trained on the cuts they judge.

    Args:
        learning_rate: of the critics.
        feature_weight: of the feature differences beside the hinge term.
        regions: the critics see which region was painted, and judge there (:func:`~.perceptual.region_weight`).
        sight: frozen network whose features a second critic judges.
    """

    def __init__(
        self,
        learning_rate: float = 4e-4,
        feature_weight: float = 4.0,
        regions: bool = False,
        sight: PerceptualDistance | None = None,
    ) -> None:
        self.critic = CutCritic(channels=4 if regions else 3)
        self.feature_critic = None if sight is None else FeatureCritic(sight.widths)
        self.sight, self.feature_weight = sight, feature_weight
        self.modules = nn.ModuleList([x for x in (self.critic, self.feature_critic) if x is not None])
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def to(self, device: torch.device | str) -> Adversary:
        """Move the critics; before their first step."""
        self.modules.to(device)
        return self

    def _judge(self, cuts: Tensor, region: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Every critic's scores of cuts, and the first one's features."""
        score, features = self.critic(_with_region(cuts, region))
        scores = [score]
        if self.sight is not None and self.feature_critic is not None:
            scores += self.feature_critic(self.sight.features(cuts))
        return scores, features

    def teach(self, output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
        """One step of the critics on decoded cuts and true ones, both ``[n, 3, h, w]``; their loss, detached.

        ``region [n, 1, h, w]`` is what was painted, for critics of regions.
        """
        both = None if region is None else torch.cat([region, region])
        scores, _ = self._judge(torch.cat([output.detach(), target]), both)
        losses = []
        for score in scores:
            fake, real = score.float().chunk(2)
            weight = _weight(region, fake)
            losses.append((functional.relu(1 + fake) * weight).mean() + (functional.relu(1 - real) * weight).mean())
        loss = torch.stack(losses).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def reward(self, output: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
        """What the denoiser minimises: minus the critics' mean score, plus the weighted feature differences."""
        self.modules.requires_grad_(False)
        scores, made = self._judge(output, region)
        with torch.no_grad():
            _, true = self.critic(_with_region(target, region))
        self.modules.requires_grad_(True)
        pairs = zip(made, true, strict=True)
        apart = torch.stack([((a - b).abs() * _weight(region, a)).mean() for a, b in pairs]).mean()
        praise = torch.stack([(score.float() * _weight(region, score)).mean() for score in scores]).mean()
        return self.feature_weight * apart - praise


def balanced_weight(reward: Tensor, others: Tensor, pictures: Tensor, share: float) -> Tensor:
    """Weight that makes the reward's gradient at ``pictures`` as large as ``share`` of the other losses' (scalars).

    Esser et al. 2021, equation 7: critics grow sure of themselves, and a fixed weight would follow them.
    """
    (of_others,) = torch.autograd.grad(others, pictures, retain_graph=True)
    (of_reward,) = torch.autograd.grad(reward, pictures, retain_graph=True)
    return share * of_others.norm() / of_reward.norm().clamp_min(1e-8)


def _with_region(cuts: Tensor, region: Tensor | None) -> Tensor:
    return cuts if region is None else torch.cat([cuts, region * 2 - 1], 1)


def _weight(region: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(()) if region is None else region_weight(region, like)
