"""DDIM sampling (Song et al., 2021) and classifier-free guidance (Ho and Salimans, 2021), for every denoiser here."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .schedule import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(x_t, t) -> (denoised, noise)``: the estimates of x_0 and of the noise in x_t; t is a scalar tensor."""
Callback = Callable[[int, int, Tensor], None]
"""``(done steps, total steps, denoised)`` after every step; may raise to stop."""


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """A prediction moved away from the unconditional one; 1 is the conditional one.

    >>> import torch
    >>> classifier_free_guidance(torch.tensor(2.0), torch.tensor(1.0), 3.0)
    tensor(4.)
    """
    return unconditional + scale * (conditional - unconditional)


def ddim_step(denoised: Tensor, noise: Tensor, alpha_next: Tensor, sigma_next: Tensor) -> Tensor:
    """One deterministic DDIM step (Song et al., equation 12 with eta = 0): the same noise at the next level.

    >>> import torch
    >>> ddim_step(torch.tensor(1.0), torch.tensor(-1.0), torch.tensor(0.8), torch.tensor(0.6))
    tensor(0.2000)
    """
    return alpha_next * denoised + sigma_next * noise


def ddim_sample(
    denoise: Denoise, x: Tensor, timesteps: Tensor, schedule: NoiseSchedule, callback: Callback | None = None
) -> Tensor:
    """Denoise with DDIM.

    Args:
        denoise: the estimates at one timestep; conditions, guidance and memory live in this function.
        x: x_T, noise of any shape.
        timesteps: of :meth:`NoiseSchedule.timesteps`.
        callback: called after each step.

    Returns:
        x_0, of x's shape.
    """
    denoised, total = x, len(timesteps)
    for i, timestep in enumerate(timesteps):
        denoised, noise = denoise(x, timestep)
        if i + 1 < total:
            x = ddim_step(denoised, noise, *schedule.alpha_sigma(timesteps[i + 1], x))
        if callback is not None:
            callback(i + 1, total, denoised)
    return denoised
