"""How well a motion codec rebuilds held-out clips, and pairs with swapped tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...correlation import correlation, mean_correlation
from ...face.landmarks import BLINK_VALUES, LIP_VALUES, lid_opening, lip_opening
from ...models.motion_codec import MotionCodec
from ..ridge import ridge_solution
from .data import CLOSING, CodecFrames, encode_rows
from .losses import swap_inside


def concentration(changes: Tensor) -> Tensor:
    """One over the participation ratio of some random vectors ``[n, d]``: 1 where all lie on one line, 1 / d where
    all directions are alike (scalar).

    It is ``tr(C^2) / tr(C)^2`` of their covariance C about zero. The products of different vectors alone are counted.
    So a few of them do not look as if they lay in fewer dimensions than they do.
    """
    number = len(changes)
    gram = changes @ changes.T
    own = gram.diagonal()
    apart = (gram.square().sum() - own.square().sum()) / (number * (number - 1))
    return apart / own.mean().square().clamp_min(1e-8)


def explained(changes: Tensor, causes: Tensor, fitted: int) -> float:
    """Part of the variance of ``changes [n, d]`` that ``causes [n, k]`` explain linearly: fitted on the first
    ``fitted`` rows, measured on the others."""
    causes = causes / causes[:fitted].std(0).clamp_min(1e-4)
    weight = ridge_solution(causes[:fitted], changes[:fitted], 1e-2 * fitted)
    left = changes[fitted:] - causes[fitted:] @ weight
    return 1 - float(left.square().sum() / changes[fitted:].square().sum().clamp_min(1e-8))


@torch.no_grad()
def validate_codec(codec: MotionCodec, data: CodecFrames) -> dict[str, float]:
    """How much of the lips' and lids' opening and of the landmarks survives on held-out clips, and in swapped pairs.

    Correlations are taken inside each clip and averaged, those of the lids over clips with a blink; the reference is
    the clip's first kept frame. ``lid_range``: decoded over true deviation of the lids' gap. ``expression_value_r``:
    mean over the expression's values of the correlation, over all frames, of what is read off the tokens and the truth.
    ``lip_dimensions`` and ``expression_dimensions`` are participation ratios of how the tokens change within a clip.
    ``lip_explained`` and ``expression_explained`` tell how much of it values and head explain; the rest is no motion.
    """
    rows = torch.arange(len(data.landmarks), device=data.landmarks.device)
    raw = encode_rows(codec, data, rows)
    decoded = []
    for first, last in data.spans:
        still = raw[first : first + 1].expand(last - first, -1, -1)
        decoded.append(codec.decoder(raw[first:last], still, data.landmarks[first].expand(last - first, -1, -1)))
    points, values = [d[0].cpu() for d in decoded], [d[1].cpu() for d in decoded]
    true_points = [data.landmarks[first:last].cpu() for first, last in data.spans]
    true_values = [data.values[first:last].cpu() for first, last in data.spans]
    blinking = [k for k, v in enumerate(true_values) if (v[:, BLINK_VALUES].mean(1) > CLOSING).any()]
    lids = [(lid_opening(points[k]), lid_opening(true_points[k])) for k in blinking]
    errors = [(p - t).norm(dim=-1).mean().item() * 128 for p, t in zip(points, true_points, strict=True)]
    result = {
        "lip_value_r": mean_correlation([v[:, 0] for v in values], [v[:, 0] for v in true_values]),
        "lip_landmark_r": mean_correlation(list(map(lip_opening, points)), list(map(lip_opening, true_points))),
        "lid_landmark_r": mean_correlation([m for m, _ in lids], [t for _, t in lids]),
        "lid_range": float(np.mean([float(m.std() / t.std().clamp_min(1e-4)) for m, t in lids])) if lids else 0.0,
        "blink_value_r": mean_correlation(
            [values[k][:, BLINK_VALUES.start] for k in blinking],
            [true_values[k][:, BLINK_VALUES.start] for k in blinking],
        ),
        "landmark_error_px": float(np.mean(errors)),
    }
    read, known = codec.read_values(raw).cpu(), data.values.cpu()
    shown = [k for k in range(known.shape[1]) if k not in LIP_VALUES and known[:, k].std() > 1e-3]
    if shown:
        result["expression_value_r"] = float(np.mean([correlation(read[:, k], known[:, k]) for k in shown]))
    config = codec.config.motion_codec
    sizes = [config.head_tokens, config.lip_tokens, config.expression_tokens]
    clips = [raw[first:last] - raw[first:last].mean(0) for first, last in data.spans]
    head, lip, expression = (part.flatten(1) for part in torch.cat(clips).split(sizes, dim=1))
    moved = torch.cat([data.values[first:last] - data.values[first:last].mean(0) for first, last in data.spans])
    half = sum(len(clip) for clip in clips[: len(clips) // 2])
    for name, part in (("lip", lip), ("expression", expression)):
        result[f"{name}_dimensions"] = 1 / float(concentration(part))
        if half:
            result[f"{name}_explained"] = explained(part, torch.cat([moved, head], dim=1), half)
    if len(data.pairs):
        crossed = raw[data.pairs].unflatten(1, (2, 2))
        swapped, _ = swap_inside(crossed, codec.config)
        number = swapped[:, 0, 0].shape[0] * 4
        still = crossed[:, :1, :1].expand_as(crossed).flatten(0, 2)
        points = data.landmarks[data.pairs][:, :1].expand(-1, 4, -1, -1).flatten(0, 1)
        _, values = codec.decoder(swapped.flatten(0, 2), still, points)
        truth = data.values[data.pairs.flatten()]
        result["swapped_lip_value_r"] = correlation(values[:number, 0], truth[:, 0])
        result["swapped_value_error"] = (values - truth).abs().mean().item()
    return result
