"""Noise schedule, prediction targets and DDIM sampling of the image denoiser (section 4.1, appendix C).

Latents x_0 are noised as x_t = a_t x_0 + s_t e with e standard normal and a_t^2 + s_t^2 = 1, a_t on diffusers' cosine
schedule. Everything here is a pure function of tensors; :class:`NoiseSchedule` holds the numbers a_t and s_t and which
target the network predicts:

``epsilon``         the noise (the paper; ``base``),
``v_prediction``    a_t e - s_t x_0,
``prior_residual``  see :func:`precondition` (``tiny``, with the warped reference's latents w as prior mean).

Why the residual. Let the prior of a frame be x_0 = w + sqrt(V) u, u standard normal, V = 0.36 the measured variance of
true minus warped latents. Observing x_t = a x_0 + s e, the posterior of x_0 is normal with

    precision  1 / V + a^2 / s^2                        =>  variance  V s^2 / (V a^2 + s^2),
    mean       w + V a / (V a^2 + s^2) (x_t - a w).

The network predicts how many posterior standard deviations x_0 lies from the posterior mean. Its target has variance
about 1 at every t (no weighting needed), an output of zero is already the best linear estimate, and at t = T the
estimate is the warped reference itself, not a grey mean.

The warp is far more wrong at lips and where it moves much than on a still background. With one V for all, the noise
that sampling starts from comes back as grain where nothing is unsure; ``diffusion.prior_variance_terms`` therefore
make V a sum of five parts read off the guide (:meth:`NoiseSchedule.variance_of`). Sampling from ``temperature`` times
the noise narrows what is left: near 0 every step refines the most likely picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..config import MCDMConfig
from ..errors import MCDMError

Denoise = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, int, Tensor], None]

VARIANCE_FLOOR = 0.02
PREDICTION_TYPES = ("epsilon", "v_prediction", "prior_residual")


def precondition(
    x: Tensor, prior_mean: Tensor, a: Tensor, s: Tensor, variance: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of x_0 given x_t under the prior N(prior_mean, variance).

    Args:
        x: x_t, any shape; ``prior_mean`` of the same shape; ``a``, ``s`` broadcastable.
        variance: V of the prior, one number or broadcastable to x.

    Returns:
        Mean, of x's shape, and standard deviation, broadcastable to it.
    """
    evidence = variance * a**2 + s**2
    mean = prior_mean + variance * a / evidence * (x - a * prior_mean)
    return mean, (variance * s**2 / evidence).sqrt()


def to_x0(
    prediction: Tensor,
    x: Tensor,
    a: Tensor,
    s: Tensor,
    kind: str,
    prior_mean: Tensor | None = None,
    variance: float | Tensor = 0.36,
) -> Tensor:
    """The network's output as an estimate of x_0.

    Raises:
        MCDMError: for an unknown ``kind``, or ``prior_residual`` without a prior mean.
    """
    if kind == "epsilon":
        return (x - s * prediction) / a
    if kind == "v_prediction":
        return a * x - s * prediction
    mean, deviation = precondition(x, _required(prior_mean, kind), a, s, variance)
    return mean + deviation * prediction


def training_target(
    x0: Tensor,
    noise: Tensor,
    x: Tensor,
    a: Tensor,
    s: Tensor,
    kind: str,
    prior_mean: Tensor | None = None,
    variance: float | Tensor = 0.36,
) -> Tensor:
    """What the network should output for x = a x0 + s noise; :func:`to_x0` inverts it."""
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return a * noise - s * x0
    mean, deviation = precondition(x, _required(prior_mean, kind), a, s, variance)
    return (x0 - mean) / deviation


def ddim_step(x: Tensor, x0: Tensor, a: Tensor, s: Tensor, a_next: Tensor, s_next: Tensor) -> Tensor:
    """One deterministic DDIM step (Song et al., 2021, equation 12 with eta = 0) from (a, s) to (a_next, s_next)."""
    noise = (x - a * x0) / s
    return a_next * x0 + s_next * noise


def _required(prior_mean: Tensor | None, kind: str) -> Tensor:
    if kind not in PREDICTION_TYPES:
        raise MCDMError(f"Prediction type {kind!r} is unknown; choose one of {', '.join(PREDICTION_TYPES)}.")
    if prior_mean is None:
        raise MCDMError(
            "Prediction type 'prior_residual' needs the warped reference's latents as prior mean; give landmarks, or "
            "switch warped_reference off."
        )
    return prior_mean


def variance_features(guide: Tensor, latent_channels: int) -> Tensor:
    """What the warp's error depends on, ``[b, f, 5, h, w]``: 1, drawn lips and lids, texture, texture times movement.

    Texture is the squared difference of the warped latents from their 3x3 mean, a mean over channels; movement the
    length of the flow (crop widths times ``FLOW_SCALE``, at most 1): a flat wall is right wherever it is taken from, a
    lock of hair only if the flow is.
    """
    warped, flow = guide[:, :, :latent_channels].flatten(0, 1), guide[:, :, latent_channels : latent_channels + 2]
    smooth = functional.avg_pool2d(functional.pad(warped, (1, 1, 1, 1), mode="replicate"), 3, 1)
    texture = (warped - smooth).square().mean(1, keepdim=True).unflatten(0, guide.shape[:2])
    moved = flow.square().sum(2, keepdim=True).sqrt().clamp(max=1.0)
    drawn = guide[:, :, latent_channels + 2 :].unflatten(2, (3, 4)).amax(3)[:, :, :2]
    return torch.cat([torch.ones_like(texture), drawn, texture, texture * moved], 2)


def variance_map(guide: Tensor, latent_channels: int, terms: tuple[float, ...]) -> Tensor:
    """Variance of the true latents around the warped ones, ``[b, f, 1, h, w]``, at least ``VARIANCE_FLOOR``."""
    weights = torch.tensor(terms, device=guide.device, dtype=guide.dtype).view(1, 1, -1, 1, 1)
    return (variance_features(guide, latent_channels) * weights).sum(2, keepdim=True).clamp(min=VARIANCE_FLOOR)


class NoiseSchedule:
    """a_t and s_t, the target's kind, and the steps of a sampler.

    Timesteps lie in [0, num_train_timesteps). ``epsilon`` uses diffusers' ``DDIMScheduler`` for its cosine table and
    its step spacing; the other kinds use the same cosine in closed form, so that t may be fractional.

    Attributes:
        kind: the target. A configuration with ``prior_residual`` but ``warped_reference`` switched off has no prior
            mean: it predicts velocity instead.
    """

    def __init__(self, config: MCDMConfig) -> None:
        from diffusers import DDIMScheduler

        diffusion = config.diffusion
        kind = diffusion.prediction_type
        if kind not in PREDICTION_TYPES:
            raise MCDMError(f"Prediction type {kind!r} is unknown; choose one of {', '.join(PREDICTION_TYPES)}.")
        if kind == "prior_residual" and not config.unet.warped_reference:
            kind = "v_prediction"
        self.kind = kind
        self.variance = diffusion.prior_variance
        self.variance_terms = diffusion.prior_variance_terms
        if self.variance_terms and len(self.variance_terms) != 5:
            raise MCDMError(
                f"diffusion.prior_variance_terms has {len(self.variance_terms)} numbers; give five, as "
                "variance_features has, or none."
            )
        self.temperature = diffusion.temperature
        self.num_train_timesteps = diffusion.num_train_timesteps
        self.latent_channels = config.unet.latent_channels
        self.table = kind == "epsilon"
        self.scheduler = DDIMScheduler(
            num_train_timesteps=diffusion.num_train_timesteps,
            beta_schedule=diffusion.beta_schedule,
            prediction_type="epsilon",
            clip_sample=False,
            steps_offset=1,
        )

    def timesteps(self, steps: int) -> Tensor:
        """``[steps]`` decreasing timesteps.

        Raises:
            MCDMError: if ``steps`` is not between 1 and the number of training timesteps.
        """
        if not 1 <= steps <= self.num_train_timesteps:
            raise MCDMError(f"{steps} denoising steps asked for; give 1 to {self.num_train_timesteps}.")
        if self.table:
            self.scheduler.set_timesteps(steps)
            return self.scheduler.timesteps.float()
        top = self.num_train_timesteps - 1
        return torch.linspace(top, 0, steps + 1)[:-1]

    def signal_and_noise(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t of ``timestep`` ``[]`` or ``[b]``, shaped to broadcast against ``like`` ``[b, ...]``."""
        t = timestep.to(device=like.device, dtype=torch.float32)
        if self.table:
            alphas = self.scheduler.alphas_cumprod.to(like.device)
            square = alphas[t.round().long().clamp(0, self.num_train_timesteps - 1)]
            a, s = square.sqrt(), (1 - square).sqrt()
        else:
            # diffusers' cosine: abar(u) = cos^2((u + 0.008) / 1.008 pi / 2), u in [0, 1]
            angle = (t / self.num_train_timesteps + 0.008) / 1.008 * (torch.pi / 2)
            a, s = angle.cos(), angle.sin()
        shape = (-1,) + (1,) * (like.dim() - 1) if t.dim() else ()
        return a.reshape(shape).to(like.dtype), s.reshape(shape).to(like.dtype)

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of clean latents ``[b, ...]`` and timesteps ``[b]``."""
        a, s = self.signal_and_noise(timestep, x0)
        return a * x0 + s * noise

    def target(self, x0: Tensor, noise: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """The network's target for clips ``[b, f, c, h, w]`` at ``timestep [b]``."""
        a, s = self.signal_and_noise(timestep, x0)
        x = a * x0 + s * noise
        return training_target(x0, noise, x, a, s, self.kind, self.prior_mean(guide), self.variance_of(guide))

    def target_at(self, x0: Tensor, x: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """The target for any input ``x``, also one that is not noised ``x0`` (residual and velocity targets only)."""
        a, s = self.signal_and_noise(timestep, x0)
        noise = (x - a * x0) / s
        return training_target(x0, noise, x, a, s, self.kind, self.prior_mean(guide), self.variance_of(guide))

    def estimate(self, prediction: Tensor, x: Tensor, timestep: Tensor, guide: Tensor | None = None) -> Tensor:
        """x_0 as the network sees it, for clips ``[b, f, c, h, w]`` at ``timestep`` ``[]`` or ``[b]``."""
        a, s = self.signal_and_noise(timestep, x)
        return to_x0(prediction, x, a, s, self.kind, self.prior_mean(guide), self.variance_of(guide))

    def variance_of(self, guide: Tensor | None) -> float | Tensor:
        """V of the prior: one number, or with ``variance_terms`` ``[b, f, 1, h, w]`` from the guide.

        The terms weigh :func:`variance_features`.
        """
        if guide is None or not self.variance_terms:
            return self.variance
        return variance_map(guide, self.latent_channels, self.variance_terms)

    def prior_mean(self, guide: Tensor | None) -> Tensor | None:
        """The warped latents: the first latent channels of a guide ``[b, f, g, h, w]``."""
        return None if guide is None else guide[:, :, : self.latent_channels]


def sample_clip(
    denoise: Denoise,
    noise: Tensor,
    timesteps: Tensor,
    schedule: NoiseSchedule,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise a clip with DDIM.

    Args:
        denoise: ``(x_t, t) -> x_0`` with t a scalar tensor; guidance, guide and memory live in this function.
        noise: standard normal ``[b, f, c, h, w]``; x_T is it times the schedule's temperature.
        timesteps: of :meth:`NoiseSchedule.timesteps`.
        callback: ``(done_steps, total_steps, x_0 estimate)`` after each step; may raise to stop.

    Returns:
        x_0 ``[b, f, c, h, w]``.
    """
    x, total = noise * schedule.temperature, len(timesteps)
    x0 = x
    for i, t in enumerate(timesteps):
        x0 = denoise(x, t)
        if i + 1 < total:
            a, s = schedule.signal_and_noise(t, x)
            a_next, s_next = schedule.signal_and_noise(timesteps[i + 1], x)
            x = ddim_step(x, x0, a, s, a_next, s_next)
        if callback is not None:
            callback(i + 1, total, x0)
    return x0
