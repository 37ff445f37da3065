"""Cosine noise schedule of both denoisers (section 4.1, appendix C; Nichol and Dhariwal, 2021).

Clean data x_0 are noised as x_t = alpha_t x_0 + sigma_t noise, with alpha_t^2 + sigma_t^2 = 1. ``alphas_cumprod`` is
alpha_t^2, as everywhere in the field.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import MCDMError

SPACINGS = ("leading", "trailing")


def cosine_alphas_cumprod(num_train_timesteps: int) -> Tensor:
    """alpha_t^2 ``[num_train_timesteps]`` of the cosine schedule, diffusers' ``squaredcos_cap_v2``.

    >>> cosine_alphas_cumprod(1000)[[0, 500, 999]].sqrt()
    tensor([9.9998e-01, 7.0163e-01, 4.9282e-05])
    """
    level = [
        math.cos((k / num_train_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(num_train_timesteps + 1)
    ]
    # On the CPU also where a model is but outlined on the meta device, which has no plain way to subtract.
    betas = torch.tensor([min(1 - level[k + 1] / level[k], 0.999) for k in range(num_train_timesteps)], device="cpu")
    return torch.cumprod(1 - betas, dim=0)


class NoiseSchedule:
    """alpha_t and sigma_t of timesteps in [0, ``num_train_timesteps``), and the timesteps of a sampler.

    Args:
        num_train_timesteps: T.
        continuous: the cosine in closed form, so that t may be fractional; else the table of
            :func:`cosine_alphas_cumprod` at whole timesteps.
        spacing: of a table's timesteps in sampling, ``"leading"`` (Stable Diffusion's, from t = 1 on) or
            ``"trailing"`` (down from T - 1); see diffusers' schedulers.
    """

    def __init__(self, num_train_timesteps: int = 1000, *, continuous: bool = False, spacing: str = "trailing") -> None:
        if spacing not in SPACINGS:
            raise MCDMError(f"The spacing {spacing!r} is unknown; choose one of {', '.join(SPACINGS)}.")
        self.num_train_timesteps = num_train_timesteps
        self.continuous, self.spacing = continuous, spacing
        self.alphas_cumprod = None if continuous else cosine_alphas_cumprod(num_train_timesteps)
        self._tables: dict[torch.device, Tensor] = {}

    def timesteps(self, steps: int) -> Tensor:
        """``[steps]`` decreasing timesteps, float32.

        Raises:
            MCDMError: if ``steps`` is not between 1 and the number of training timesteps.

        >>> NoiseSchedule(1000, continuous=True).timesteps(3)
        tensor([999., 666., 333.])
        """
        total = self.num_train_timesteps
        if not 1 <= steps <= total:
            raise MCDMError(f"{steps} denoising steps asked for; give 1 to {total}.")
        if self.continuous:
            return torch.linspace(total - 1, 0, steps + 1)[:-1]
        if self.spacing == "leading":
            return (torch.arange(steps).flip(0) * (total // steps) + 1).float()
        return (total - torch.arange(steps, dtype=torch.float64) * (total / steps)).round().float() - 1

    def alpha_sigma(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t of ``timestep`` ``[]`` or ``[b]``, to be multiplied with ``like`` ``[b, ...]``.

        They are of the type of ``like``. Those of a single timestep stay where it is: on the CPU they reach a GPU's
        kernels as plain numbers. A copy to the device at each step would make the host wait.
        """
        t = timestep.float()
        if self.alphas_cumprod is not None:
            alpha_squared = self._table(t.device)[t.round().long().clamp(0, self.num_train_timesteps - 1)]
            alpha_t, sigma_t = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
        else:
            angle = (t / self.num_train_timesteps + 0.008) / 1.008 * (torch.pi / 2)
            alpha_t, sigma_t = angle.cos(), angle.sin()
        if not t.dim():
            return alpha_t.to(like.dtype), sigma_t.to(like.dtype)
        shape = (-1,) + (1,) * (like.dim() - 1)
        return alpha_t.reshape(shape).to(like), sigma_t.reshape(shape).to(like)

    def _table(self, device: torch.device) -> Tensor:
        """``alphas_cumprod`` on a device, copied there once."""
        assert self.alphas_cumprod is not None
        if device not in self._tables:
            self._tables[device] = self.alphas_cumprod.to(device)
        return self._tables[device]

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of clean data ``[b, ...]`` and timesteps ``[b]``."""
        alpha_t, sigma_t = self.alpha_sigma(timestep, clean)
        return alpha_t * clean + sigma_t * noise
