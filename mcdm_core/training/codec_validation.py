"""How well a motion codec rebuilds held-out clips, and pairs with swapped tokens."""

from __future__ import annotations

import numpy as np
import torch

from ..evaluation.lip_sync import correlation, mean_correlation
from ..models.landmarks import lid_opening, lip_opening
from ..models.motion_codec import MotionCodec
from .codec_data import BLINKS, CLOSING, CodecFrames, encode_rows
from .codec_losses import concentration, swap_inside


@torch.no_grad()
def validate_codec(codec: MotionCodec, data: CodecFrames) -> dict[str, float]:
    """How much of the lips' and lids' opening and of the landmarks survives on held-out clips, and in swapped pairs.

    Correlations are taken inside each clip and averaged, those of the lids over clips with a blink; the reference is
    the clip's first kept frame. ``lid_range``: decoded over true deviation of the lids' gap. ``lip_dimensions`` and
    ``expression_dimensions``: participation ratio of the tokens' changes from that frame.
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
    blinking = [k for k, v in enumerate(true_values) if (v[:, list(BLINKS)].mean(1) > CLOSING).any()]
    lids = [(lid_opening(points[k]), lid_opening(true_points[k])) for k in blinking]
    errors = [(p - t).norm(dim=-1).mean().item() * 128 for p, t in zip(points, true_points, strict=True)]
    result = {
        "lip_value_r": mean_correlation([v[:, 0] for v in values], [v[:, 0] for v in true_values]),
        "lip_landmark_r": mean_correlation(list(map(lip_opening, points)), list(map(lip_opening, true_points))),
        "lid_landmark_r": mean_correlation([m for m, _ in lids], [t for _, t in lids]),
        "lid_range": float(np.mean([float(m.std() / t.std().clamp_min(1e-4)) for m, t in lids])) if lids else 0.0,
        "blink_value_r": mean_correlation(
            [values[k][:, BLINKS[0]] for k in blinking], [true_values[k][:, BLINKS[0]] for k in blinking]
        ),
        "landmark_error_px": float(np.mean(errors)),
    }
    config = codec.config.motion_codec
    changes = torch.cat([raw[first:last] - raw[first] for first, last in data.spans])
    _, lip, expression = changes.split([config.head_tokens, config.lip_tokens, config.expression_tokens], dim=1)
    result["lip_dimensions"] = 1 / float(concentration(lip.flatten(1)))
    result["expression_dimensions"] = 1 / float(concentration(expression.flatten(1)))
    if len(data.pairs):
        quad = raw[data.pairs].unflatten(1, (2, 2))
        swapped, _ = swap_inside(quad, codec.config)
        number = swapped[:, 0, 0].shape[0] * 4
        still = quad[:, :1, :1].expand_as(quad).flatten(0, 2)
        points = data.landmarks[data.pairs][:, :1].expand(-1, 4, -1, -1).flatten(0, 1)
        _, values = codec.decoder(swapped.flatten(0, 2), still, points)
        truth = data.values[data.pairs.flatten()]
        result["swapped_lip_value_r"] = correlation(values[:number, 0], truth[:, 0])
        result["swapped_value_error"] = (values - truth).abs().mean().item()
    return result
