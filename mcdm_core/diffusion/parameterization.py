"""What a denoising network predicts, and how its output becomes an estimate of x_0.

``epsilon``         the noise (the paper; ``base``),
``v_prediction``    the velocity alpha_t noise - sigma_t x_0 (Salimans and Ho, 2022),
``prior_residual``  how many posterior standard deviations x_0 lies from its posterior mean (``tiny``).

Why the residual. Let a prior of x_0 be known: x_0 = w + sqrt(V) u with u standard normal. For frames w is the warped
reference and V the measured variance of true minus warped latents. Observing x_t = alpha x_0 + sigma noise, the
posterior of x_0 is normal with

    precision  1 / V + alpha^2 / sigma^2    =>  variance  V sigma^2 / (V alpha^2 + sigma^2),
    mean       w + V alpha / (V alpha^2 + sigma^2) (x_t - alpha w).

The target has variance about 1 at every t (no weighting needed), an output of zero is already the best linear estimate.
At t = T the estimate is w itself, not a grey mean.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import MCDMError

PREDICTION_TYPES = ("epsilon", "v_prediction", "prior_residual")


def posterior(
    x: Tensor, prior_mean: Tensor, alpha_t: Tensor, sigma_t: Tensor, variance: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_0 given x_t under the prior N(prior_mean, variance).

    Args:
        x: x_t, any shape; ``prior_mean`` of the same shape; ``alpha_t``, ``sigma_t`` broadcastable.
        variance: V of the prior, one number or broadcastable to x.

    Returns:
        Mean, of x's shape, and standard deviation, broadcastable to it.

    >>> seen, guess = torch.tensor(0.5), torch.tensor(0.0)
    >>> alpha_t, sigma_t = torch.tensor(0.6), torch.tensor(0.8)
    >>> posterior(seen, guess, alpha_t, sigma_t, 1.0)
    (tensor(0.3000), tensor(0.8000))
    """
    evidence = variance * alpha_t**2 + sigma_t**2
    mean = prior_mean + variance * alpha_t / evidence * (x - alpha_t * prior_mean)
    return mean, (variance * sigma_t**2 / evidence).sqrt()


def to_denoised(
    prediction: Tensor,
    x: Tensor,
    alpha_t: Tensor,
    sigma_t: Tensor,
    prediction_type: str,
    prior_mean: Tensor | None = None,
    variance: float | Tensor = 1.0,
) -> Tensor:
    """The network's output as an estimate of x_0.

    Raises:
        MCDMError: for an unknown ``prediction_type``, or ``prior_residual`` without a prior mean.

    >>> alpha_t, sigma_t = torch.tensor(0.6), torch.tensor(0.8)
    >>> noisy = alpha_t * 2.0 + sigma_t * 0.5  # x_0 is 2, the noise 0.5
    >>> to_denoised(torch.tensor(0.5), noisy, alpha_t, sigma_t, "epsilon")
    tensor(2.)
    """
    if prediction_type == "epsilon":
        return (x - sigma_t * prediction) / alpha_t
    if prediction_type == "v_prediction":
        return alpha_t * x - sigma_t * prediction
    mean, deviation = posterior(x, _required(prior_mean, prediction_type), alpha_t, sigma_t, variance)
    return mean + deviation * prediction


def training_target(
    clean: Tensor,
    noise: Tensor,
    x: Tensor,
    alpha_t: Tensor,
    sigma_t: Tensor,
    prediction_type: str,
    prior_mean: Tensor | None = None,
    variance: float | Tensor = 1.0,
) -> Tensor:
    """What the network should output for x = alpha_t clean + sigma_t noise; :func:`to_denoised` inverts it.

    >>> clean, noise, alpha_t, sigma_t = torch.tensor([2.0, 0.5, 0.6, 0.8])
    >>> training_target(clean, noise, alpha_t * clean + sigma_t * noise, alpha_t, sigma_t, "v_prediction")
    tensor(-1.3000)
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha_t * noise - sigma_t * clean
    mean, deviation = posterior(x, _required(prior_mean, prediction_type), alpha_t, sigma_t, variance)
    return (clean - mean) / deviation


def implied_noise(x: Tensor, denoised: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """The noise in x_t if x_0 is ``denoised``.

    >>> alpha_t, sigma_t = torch.tensor(0.6), torch.tensor(0.8)
    >>> implied_noise(torch.tensor(1.6), torch.tensor(2.0), alpha_t, sigma_t)
    tensor(0.5000)
    """
    return (x - alpha_t * denoised) / sigma_t


def check_prediction_type(prediction_type: str) -> None:
    """Refuse an unknown prediction type.

    Raises:
        MCDMError: see above.
    """
    if prediction_type not in PREDICTION_TYPES:
        raise MCDMError(f"Prediction type {prediction_type!r} is unknown; choose one of {', '.join(PREDICTION_TYPES)}.")


def _required(prior_mean: Tensor | None, prediction_type: str) -> Tensor:
    check_prediction_type(prediction_type)
    if prior_mean is None:
        raise MCDMError(
            "Prediction type 'prior_residual' needs the warped reference's latents as prior mean; give landmarks, or "
            "switch warped_reference off."
        )
    return prior_mean
