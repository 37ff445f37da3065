"""The prior's linear guesses in closed form: from the known past, the reference and the sound.

Fitted before training, or before it goes on with other data. What a trained prior still misses is mostly chance, and a
fit to that costs more than it gains. (Cosine to the true tokens: 0.903 without a fit at the end, 0.902 after one.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...config import MCDMConfig
from ...models.inputs.known_past import past_and_trend
from ...models.motion_codec import MotionCodec
from ...models.present_clip_prior import PresentClipPrior
from ...motion.blinks import LidAxis
from ..clip_sampler import ClipBank, ClipSampler, MotionClip
from ..ridge import ridge_solution

if TYPE_CHECKING:
    from .train import PriorModules

LEAST_VARIANCE = 4e-4
"""Of a fitted variance, so that no frame is taken for known."""


@torch.no_grad()
def fit_linear_paths(
    modules: PriorModules,
    config: MCDMConfig,
    groups: Sequence[Sequence[MotionClip]] | ClipBank,
    batches: int = 12,
    batch: int = 32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Fit the linear paths to augmented segments of all groups; takes seconds and shortens training by much.

    First comes the known past (``models/inputs/known_past.py``), for every frame of the clip and feature, beside what
    the sound and the layers already say. Then comes the path from the sound to what is still missed. Last comes the
    variance of the rest, where the configuration has it fitted. The layers' last weights are scaled to it.

    Returns:
        ``correlation [nq]``: of what is missed from one frame to the next, to choose ``noise_correlation`` by;
        ``deviation [f, nq]`` of it.
    """
    return fit_gathered_paths(modules.present_clip_prior, *_gather(modules, config, groups, batches, batch, seed))


@torch.no_grad()
def fit_gathered_paths(
    prior: PresentClipPrior, last: Tensor, trend: Tensor, still: Tensor, rest: Tensor, sound: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """:func:`fit_linear_paths` to what was gathered of ``s`` segments.

    Args:
        last, trend, still: last known frame, trend and reference ``[s, 1, nq, dm]``.
        rest: what the prior says at full noise beside its guess from the past ``[s, f, nq, dm]``.
        sound: ``[s, f, k da]``; target: the true clip ``[s, f, nq, dm]``.
    """
    if prior.past is not None:
        said = _fit_past(prior, last, trend, still, rest, target)
        guess = prior.past.last * last + prior.past.trend * trend + prior.past.reference * still + said * rest
    else:
        guess = rest
    missed = target - guess
    features = sound.flatten(0, 1)
    wanted = missed[:, :, prior.audio_driven].flatten(2).flatten(0, 1)
    weight = ridge_solution(features, wanted, 0.02 * len(features)).T
    prior.direct.weight += weight
    missed[:, :, prior.audio_driven] -= (sound @ weight.T).unflatten(2, (-1, missed.shape[-1]))
    variance = missed.square().mean(0).clamp_min(LEAST_VARIANCE)
    if prior.variance is not None:
        scale = (prior.variance.mean(0) / variance.mean(0)).sqrt()
        prior.output["weight"] *= scale[:, None]
        prior.output["bias"] *= scale
        prior.variance.copy_(variance)
    unit = missed / variance.sqrt()
    correlation = (unit[:, 1:] * unit[:, :-1]).mean((0, 1, 3)) / unit.square().mean((0, 1, 3))
    return {"correlation": correlation, "deviation": variance.mean(-1).sqrt()}


@torch.no_grad()
def fit_closed_lids(prior: PresentClipPrior, codec: MotionCodec, clips: Iterable[Tensor]) -> None:
    """Set ``closed_lids``: the slope of the expression tokens against what the codec reads of the lids in them.

    Within each clip, so that no person's face is taken for a blink. Brows stay where they are along it. They move by
    0.1 px of 128 when the lids close, along the shortest change with the same reading by 0.5.

    Args:
        clips: tokens ``[t, nq, dm]`` of each.
    """
    first = prior.head_tokens + prior.lip_tokens
    axis = LidAxis.of(codec, torch.zeros_like(prior.closed_lids))
    slope, total = torch.zeros_like(prior.closed_lids), 0.0
    for own in clips:
        tokens = own[:, first:] - own[:, first:].mean(0)
        read = axis.read(tokens) - axis.offset
        slope += torch.einsum("tnd,t->nd", tokens, read)
        total += float(read.square().sum())
    prior.closed_lids.copy_(slope / max(total, 1e-6))


def _gather(
    modules: PriorModules,
    config: MCDMConfig,
    groups: Sequence[Sequence[MotionClip]] | ClipBank,
    batches: int,
    batch: int,
    seed: int,
) -> tuple[Tensor, ...]:
    """What :func:`fit_gathered_paths` is given, of random segments."""
    prior, context = modules.present_clip_prior, config.present_clip_prior.context_frames
    sampler = ClipSampler(config, groups, seed)
    rows: list[tuple[Tensor, ...]] = []
    for _ in range(batches):
        segments = sampler.sample(batch)
        tokens = segments.of("tokens")
        known, clean = tokens[:, :context], tokens[:, context:]
        sound = modules.audio_encoder.encode_segment(segments.mels, sampler.hop)
        still = sampler.earlier_tokens(segments)
        coded = config.image_encoder.kind == "codec"
        image = modules.image_encoder(still if coded else sampler.references(segments))
        time = torch.full((batch,), len(prior.alphas_cumprod) - 1, device=clean.device)
        noise = torch.randn(clean.shape, generator=sampler.generator, device=clean.device)
        out = prior(noise, time, sound[:, context:], image, context=known, context_audio=sound[:, :context])
        said = prior.denoised(out, noise, time)
        reference = image if coded else known[:, -1]
        if prior.past is not None:
            said = said - prior.past(known, reference, clean.shape[1])
        rows.append((*past_and_trend(known), reference[:, None], said, sound[:, context:].flatten(2), clean))
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


def _fit_past(
    prior: PresentClipPrior, last: Tensor, trend: Tensor, still: Tensor, rest: Tensor, target: Tensor
) -> Tensor:
    """Set the weights of the known past; returns how much of ``rest`` is worth having, by feature ``[nq, dm]``.

    Least squares in four unknowns for every frame and feature, drawn by a light penalty towards a face held still.
    """
    shape = target.shape
    inputs = torch.stack([x.expand(shape) for x in (last, trend, still, rest)], -1)
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)

    def moment(other: Tensor) -> Tensor:
        return torch.stack([(inputs[..., i] * other).mean(0) for i in range(4)], -1).double()

    products = torch.stack([moment(inputs[..., i]) for i in range(4)], -1)
    moments = moment(target - last)
    penalty = 1e-3 * torch.eye(4, dtype=torch.float64)
    solution = (start + torch.linalg.solve(products + penalty, moments[..., None])[..., 0]).float()
    said = solution[..., 3].mean(0).clamp(0, 1.2)
    # The layers' share is the same in all frames; the rest is solved again beside it.
    moments = moment(target - last - said * rest)[..., :3]
    solved = torch.linalg.solve(products[..., :3, :3] + penalty[:3, :3], moments[..., None])[..., 0]
    solution = (start[:3] + solved).float()
    for index, name in enumerate(("last", "trend", "reference")):
        getattr(prior.past, name).copy_(solution[..., index])
    prior.output["weight"] *= said[:, None]
    prior.output["bias"] *= said
    prior.direct.weight *= said[prior.audio_driven].flatten()[:, None]
    return said
