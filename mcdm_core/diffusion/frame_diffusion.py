"""The diffusion of frames: a clip's latents, with the warped reference as prior mean where there is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..config import MCDMConfig
from ..errors import MCDMError
from ..face.part_guide import region_variance
from .parameterization import check_prediction_type, implied_noise, to_denoised, training_target
from .sampling import Callback, ddim_sample
from .schedule import NoiseSchedule
from .warp_variance import variance_map


class FrameDiffusion:
    """Noising, the network's target, its estimate and sampling of clips ``[b, f, c, h, w]``.

    Attributes:
        prediction_type: what the network predicts (``parameterization.py``). A configuration with ``prior_residual``
            but ``warped_reference`` switched off has no prior mean: it predicts velocity instead.
        schedule: alpha_t and sigma_t. ``epsilon`` keeps Stable Diffusion's table and timesteps.
        temperature: of the noise sampling starts from; near 0 every step refines the most likely picture.
        shared_noise: whether all frames of a video have the same noise.
    """

    def __init__(self, config: MCDMConfig) -> None:
        diffusion = config.diffusion
        check_prediction_type(diffusion.prediction_type)
        velocity = diffusion.prediction_type == "prior_residual" and not config.unet.warped_reference
        self.prediction_type = "v_prediction" if velocity else diffusion.prediction_type
        self.schedule = NoiseSchedule(
            diffusion.num_train_timesteps, continuous=self.prediction_type != "epsilon", spacing="leading"
        )
        self.temperature, self.shared_noise = diffusion.temperature, diffusion.shared_noise
        self._variance = diffusion.prior_variance
        self._variance_terms = diffusion.prior_variance_terms
        self._latent_channels = config.unet.latent_channels
        self._parts = config.parts
        if self._variance_terms and len(self._variance_terms) != 5:
            raise MCDMError(
                f"diffusion.prior_variance_terms has {len(self._variance_terms)} numbers; give five, as "
                "variance_features has, or none."
            )

    def draw_noise(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise of clips shaped ``like`` ``[b, f, c, h, w]``; the frames may share it.

        With a generator it is drawn on the generator's device, so that a seed means the same on every device.
        """
        shape = (like.shape[0], 1 if self.shared_noise else like.shape[1], *like.shape[2:])
        device = like.device if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=device).to(like).expand_as(like)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of clean latents ``[b, ...]`` and timesteps ``[b]``."""
        return self.schedule.add_noise(clean, noise, timestep)

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """The network's target for clean clips noised at ``timestep [b]``."""
        alpha_t, sigma_t = self.schedule.alpha_sigma(timestep, clean)
        x = alpha_t * clean + sigma_t * noise
        given = self.prior_mean(guide), self.variance_of(guide)
        return training_target(clean, noise, x, alpha_t, sigma_t, self.prediction_type, *given)

    def target_at(self, clean: Tensor, x: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """The target for any input ``x``, also one that is not noised ``clean`` (no ``epsilon`` target has that)."""
        alpha_t, sigma_t = self.schedule.alpha_sigma(timestep, clean)
        noise = implied_noise(x, clean, alpha_t, sigma_t)
        given = self.prior_mean(guide), self.variance_of(guide)
        return training_target(clean, noise, x, alpha_t, sigma_t, self.prediction_type, *given)

    def denoised(self, prediction: Tensor, x: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """x_0 as the network sees it, for x_t at ``timestep`` ``[]`` or ``[b]``."""
        alpha_t, sigma_t = self.schedule.alpha_sigma(timestep, x)
        given = self.prior_mean(guide), self.variance_of(guide)
        return to_denoised(prediction, x, alpha_t, sigma_t, self.prediction_type, *given)

    def sample(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        steps: int,
        guide: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Denoise a clip with DDIM.

        Args:
            predict: the network, ``(x_t, t) -> prediction``, t a scalar tensor on the CPU. Memory and guidance live in
                it.
            noise: standard normal ``[b, f, c, h, w]``; x_T is it times the temperature.
            steps: of sampling.
            guide: ``[b, f, g, h, w]``, where there is one.
            callback: called after each step.

        Returns:
            x_0 ``[b, f, c, h, w]``.
        """
        given = self.prior_mean(guide), self.variance_of(guide)

        def denoise(x: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
            alpha_t, sigma_t = self.schedule.alpha_sigma(timestep, x)
            denoised = to_denoised(predict(x, timestep), x, alpha_t, sigma_t, self.prediction_type, *given)
            return denoised, implied_noise(x, denoised, alpha_t, sigma_t)

        return ddim_sample(denoise, noise * self.temperature, self.schedule.timesteps(steps), self.schedule, callback)

    def variance_of(self, guide: Tensor | None) -> float | Tensor:
        """V of the prior: one number, or with ``prior_variance_terms`` ``[b, f, 1, h, w]`` from the guide."""
        if guide is not None and self._parts.size:
            known, unknown = self._parts.known_variance, self._parts.unknown_variance
            return region_variance(guide, self._latent_channels, known, unknown)
        if guide is None or not self._variance_terms:
            return self._variance
        return variance_map(guide, self._latent_channels, self._variance_terms)

    def prior_mean(self, guide: Tensor | None) -> Tensor | None:
        """The warped latents: the first latent channels of a guide ``[b, f, g, h, w]``."""
        return None if guide is None else guide[:, :, : self._latent_channels]
