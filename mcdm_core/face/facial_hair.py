"""How bearded a face looks: skin around the mouth compared with the cheekbones, in darkness and in fine texture."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..media.pixels import luminance
from .landmarks import inter_ocular_distance

CHEEKS = (52, 53)
_FINE = 7
"""Side of the mean, in pixels, over which texture is fine."""
_WEIGHTS: tuple[tuple[float, ...], ...] = (
    (-0.685, 12.098, 8.284, -1.052),
    (0.638, -1.765, 5.406, -0.065),
    (-0.703, 3.965, 12.775, -1.539),
)
_BIAS = -5.181


def facial_hair_score(crop: Tensor, landmarks: Tensor) -> float:
    """Log-odds that a face wears a beard or a moustache.

    Args:
        crop: ``[3, s, s]`` in [0, 1], about 192 to 256 px; landmarks: ``[68, 2]`` in [0, 1] of it.

    The weights of a logistic regression on 666 portraits (35 with beards), labelled by eye.
    """
    found = facial_hair_features(crop, landmarks)
    return float((found * torch.tensor(_WEIGHTS)).sum()) + _BIAS


def facial_hair_features(crop: Tensor, landmarks: Tensor) -> Tensor:
    """``[3, 4]``: for chin, jaw and upper lip the log-ratio of lightness to that of the cheekbones, its square (beards
    are darker or whiter than skin), the fine texture, and the spread of lightness, both over the cheekbones'."""
    points = landmarks * crop.shape[-1]
    between = float(inter_ocular_distance(landmarks)) * crop.shape[-1]
    light = luminance(crop)
    smooth = functional.avg_pool2d(light[None, None], _FINE, 1, _FINE // 2, count_include_pad=False)[0, 0]
    maps = torch.stack([light, (light - smooth).abs()])
    lip, chin = points[9], points[54]
    under_nose = (points[49] + points[3]) / 2
    sides = [0.4 * (points[a] + points[b]) / 2 + 0.6 * points[c] for a, b, c in ((50, 0, 1), (51, 6, 5))]
    areas = (
        [lip + (chin - lip) * along for along in (0.35, 0.6, 0.85)],
        [(points[0] + points[55]) / 2, (points[6] + points[58]) / 2],
        [under_nose, *((points[49] + points[k]) / 2 + 0.2 * (points[3] - points[k]) for k in (1, 5)), *sides],
    )
    cheeks = _patches(maps, [points[k] for k in CHEEKS], 0.1 * between)[0].median().clamp_min(0.03)
    rows = []
    for area in areas:
        found = _patches(maps, area, 0.06 * between)
        ratio = (found[0].median().clamp_min(0.03) / cheeks).log()
        rows.append(torch.stack([ratio, ratio.square(), 10 * found[1].median() / cheeks, 5 * found[0].std() / cheeks]))
    return torch.stack(rows)


def _patches(maps: Tensor, centres: list[Tensor], reach: float) -> Tensor:
    """Values ``[c, n]`` of maps ``[c, h, w]`` in squares around points in pixels, joined."""
    height, width = maps.shape[-2:]
    reach, parts = max(1, int(reach)), []
    for centre in centres:
        x = min(max(int(centre[0]), reach), width - 1 - reach)
        y = min(max(int(centre[1]), reach), height - 1 - reach)
        parts.append(maps[:, y - reach : y + reach + 1, x - reach : x + reach + 1].flatten(1))
    return torch.cat(parts, 1)
