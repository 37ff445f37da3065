"""What the denoiser of parts is shown in training: steps of sampling as they will be, or true latents at any noise (C).

``tiny`` samples in two steps. The first begins with noise alone and can but estimate a mean: soft. The second is handed
that estimate with the noise put back, not noised true latents. Trained on those alone it takes the softness for the
truth. So half of the batches run the first step without gradients and train the second on what it hands on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from ...diffusion.frame_diffusion import FrameDiffusion
from ...diffusion.parameterization import implied_noise
from ...diffusion.sampling import ddim_step

LEAST_TIME, MOST_TIME = 0.12, 0.85
"""Range of timesteps on the way down, in parts of the schedule: what a few steps of sampling go through."""
COLDEST, WARMEST = 0.5, 0.9
"""Range of temperatures of the noise that sampling begins with; the shipped one lies between."""

Memory = dict[str, Tensor]
Carried = tuple[Memory | None, Memory | None]
"""M of the clip ahead at the first and at the second step (method.md, section 3: carried by timestep)."""
NOTHING_CARRIED: Carried = (None, None)


class Step(Enum):
    """The first of two steps of sampling, the second, or true latents at any noise."""

    FIRST = auto()
    SECOND = auto()
    ANYWHERE = auto()


@dataclass(frozen=True)
class StepShares:
    """Shares of batches that train the first and the second step; the rest trains the way down."""

    first: float = 0.38
    second: float = 0.5

    def pick(self, chance: float) -> Step:
        """The step of a number that is uniform in [0, 1).

        >>> StepShares(0.5, 0.25).pick(0.6)
        <Step.SECOND: 2>
        """
        if chance < self.first:
            return Step.FIRST
        return Step.SECOND if chance < self.first + self.second else Step.ANYWHERE


@dataclass(frozen=True)
class Conditions:
    """What a clip's parts are painted from: archived latents ``[b, f, c, h, w]``, the portrait's ``[b, c, h, w]``,
    motion tokens ``[b, f, m, d]`` and the guide ``[b, f, g, h, w]``."""

    archived: Tensor
    still: Tensor
    tokens: Tensor
    guide: Tensor


Denoise = Callable[[Tensor, Tensor, Conditions, Memory | None], tuple[Tensor, Memory]]
"""``(x_t, t [b], conditions, memory) -> (estimate of x_0, memory to carry on)``."""


class TrainingSteps:
    """Inputs of the denoiser: x_t, t and the carried memory."""

    def __init__(self, diffusion: FrameDiffusion, denoise: Denoise) -> None:
        self.diffusion, self.denoise = diffusion, denoise
        self._first, self._second = diffusion.schedule.timesteps(2).tolist()

    def begin(self, like: Tensor) -> Tensor:
        """x_T of clips shaped ``like`` ``[b, f, c, h, w]``, at a temperature of its own each."""
        warmth = torch.rand(len(like), 1, 1, 1, 1, device=like.device)
        return self.diffusion.draw_noise(like) * (COLDEST + (WARMEST - COLDEST) * warmth)

    def shown(
        self, step: Step, clean: Tensor, begin: Tensor, conditions: Conditions, carried: Carried = NOTHING_CARRIED
    ) -> tuple[Tensor, Tensor, Memory | None]:
        """x_t, t ``[b]`` and memory of a batch of true latents ``clean`` whose sampling begins at ``begin``."""
        if step is Step.FIRST:
            return begin, self._at(self._first, clean), carried[0]
        if step is Step.SECOND:
            with torch.no_grad():
                estimate, _ = self.denoise(begin, self._at(self._first, clean), conditions, carried[0])
            return self._handed_on(begin, estimate), self._at(self._second, clean), carried[1]
        top = self.diffusion.schedule.num_train_timesteps - 1
        amount = torch.rand(len(clean), device=clean.device)
        timestep = (LEAST_TIME + (MOST_TIME - LEAST_TIME) * amount) * top
        return self.diffusion.add_noise(clean, self.diffusion.draw_noise(clean), timestep), timestep, carried[1]

    @torch.no_grad()
    def sample(self, step: Step, begin: Tensor, conditions: Conditions) -> tuple[Tensor, Carried]:
        """A clip painted in one step (before a first step) or in two, and the memories it hands on."""
        if step is Step.FIRST:
            made, first = self.denoise(begin, self._at(self._first, begin), conditions, None)
            return made, (first, None)
        (_, made), carried = self.estimates(begin, conditions)
        return made, carried

    @torch.no_grad()
    def estimates(self, begin: Tensor, conditions: Conditions) -> tuple[tuple[Tensor, Tensor], Carried]:
        """What the first and the second step make of a clip, and the memories it hands on."""
        soft, first = self.denoise(begin, self._at(self._first, begin), conditions, None)
        handed_on = self._handed_on(begin, soft)
        made, second = self.denoise(handed_on, self._at(self._second, begin), conditions, None)
        return (soft, made), (first, second)

    def _handed_on(self, begin: Tensor, estimate: Tensor) -> Tensor:
        """What DDIM makes of the first step's estimate: the same noise at the second's level."""
        schedule = self.diffusion.schedule
        first, second = (torch.tensor(t, device=begin.device) for t in (self._first, self._second))
        noise = implied_noise(begin, estimate, *schedule.alpha_sigma(first, begin))
        return ddim_step(estimate, noise, *schedule.alpha_sigma(second, begin))

    @staticmethod
    def _at(timestep: float, like: Tensor) -> Tensor:
        return like.new_full((len(like),), timestep)
