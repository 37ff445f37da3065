"""What is wrong with a portrait before it speaks: a list of findings with advice, empty for a good one.

Thresholds were set on portraits no network was trained on and on pictures made of them (blurred, dark, tilted, masked).
The shares found and missed on these are in docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...media.pixels import luminance
from ..crops import FACE_FRACTION
from ..landmarks import LIDS, LIPS, inter_ocular_distance, lid_opening, lip_opening
from .face_network import FaceReading
from .orientation import advice

SHARPNESS_SIZE = 128
"""Side of the crop in which sharpness is measured: what is finer the models do not see."""
LEAST_TURN = 0.4
"""Yaw in radians (23 degrees) from which a cheek hides a part of the mouth."""
LEAST_NOD = 0.35
LEAST_TILT = 0.35
OPEN_LIPS = 0.06
SHUT_LIDS = 0.065
LEAST_SHARPNESS = 0.115
LEAST_LIGHT = 0.35
SURELY_COVERED = 0.3
"""A full beard reads as up to 0.26, a microphone before the lips as 0.34 or more."""
SURELY_BEARDED = 0.25
OTHER_FACE = 0.5
"""Another face counts if it is at least this wide compared with the first one."""


@dataclass(frozen=True)
class Finding:
    """Something about a portrait that makes its video worse.

    Attributes:
        kind: one word or two, the same for every portrait (``turned``, ``open mouth``, ...).
        message: what was seen; advice: what to do about it.
        value: the number it was judged by.
    """

    kind: str
    message: str
    advice: str
    value: float

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


def check_face(
    crop: Tensor, reading: FaceReading, face_width: float, other_widths: Sequence[float] = (), model_size: int = 128
) -> list[Finding]:
    """Findings about one face, the gravest kinds first.

    Args:
        crop: canonical face crop ``[3, s, s]`` in [0, 1], 256 px or so.
        reading: of this crop alone (a batch of one).
        face_width: of the face in the portrait, in pixels; other_widths: of the other faces.
        model_size: side of the models' face crop in pixels.
    """
    landmarks, pose = reading.landmarks[0].cpu(), reading.pose[0].cpu().tolist()
    crop = crop.cpu()
    covers = _covers(reading)
    hidden = {finding.kind for finding in covers}
    found = [
        *covers,
        *_place(pose),
        *([] if "covered mouth" in hidden else _mouth(landmarks)),
        *([] if "covered eye" in hidden else _eyes(landmarks)),
        *_picture(crop, landmarks, face_width, model_size),
    ]
    score = facial_hair_score(crop, landmarks)
    if score > SURELY_BEARDED and not hidden and not any(finding.kind in ("blurred", "dark") for finding in found):
        found.append(
            Finding(
                "beard",
                "The person seems to wear a beard or a moustache.",
                "Lips half hidden in hair are read less surely; look at the mouth in a short trial first.",
                score,
            )
        )
    others = [width for width in other_widths if width >= OTHER_FACE * face_width]
    if others:
        found.append(
            Finding(
                "several faces",
                f"There are {len(others) + 1} faces of about the same size.",
                "Only the largest speaks; give the box of another, or cut the picture.",
                float(len(others) + 1),
            )
        )
    return found


def lying_face(turns: int) -> Finding:
    """The finding about a picture that needs quarter turns clockwise (:func:`~.orientation.quarter_turns`)."""
    how = "stands upside down" if turns == 2 else "lies on its side"
    return Finding("lying", f"The face {how}.", advice(turns), float(turns))


def _covers(reading: FaceReading) -> list[Finding]:
    if reading.covered is None:
        return []
    mouth, *eyes = reading.covered[0].tolist()
    found = []
    if mouth > SURELY_COVERED:
        found.append(
            Finding(
                "covered mouth",
                "Something seems to cover the mouth.",
                "Use a picture without a hand, a mask or a microphone before the lips.",
                mouth,
            )
        )
    if max(eyes) > SURELY_COVERED:
        found.append(
            Finding(
                "covered eye",
                "Something seems to cover an eye.",
                "Use a picture without dark glasses or hair before the eyes, or the eyes will not blink well.",
                max(eyes),
            )
        )
    return found


def _place(pose: list[float]) -> list[Finding]:
    yaw, pitch, roll = pose[:3]
    where = "up" if pitch > 0 else "down"
    found = []
    if abs(yaw) > LEAST_TURN:
        found.append(
            Finding(
                "turned",
                f"The head is turned aside by about {math.degrees(abs(yaw)):.0f} degrees.",
                "Use a picture seen from the front: the hidden half of the mouth has to be guessed.",
                abs(yaw),
            )
        )
    if abs(pitch) > LEAST_NOD:
        found.append(
            Finding(
                "nodded",
                f"The head looks {where} by about {math.degrees(abs(pitch)):.0f} degrees.",
                "Use a picture taken at the height of the eyes.",
                abs(pitch),
            )
        )
    if abs(roll) > LEAST_TILT:
        found.append(
            Finding(
                "tilted",
                f"The head is tilted by about {math.degrees(abs(roll)):.0f} degrees.",
                "Turn the picture so that the eyes lie level.",
                abs(roll),
            )
        )
    return found


def _mouth(landmarks: Tensor) -> list[Finding]:
    opening = float(lip_opening(landmarks))
    if opening <= OPEN_LIPS:
        return []
    return [
        Finding(
            "open mouth",
            "The mouth is open or shows teeth.",
            "A portrait with closed, relaxed lips speaks better: a smile stays in the whole video.",
            opening,
        )
    ]


def _eyes(landmarks: Tensor) -> list[Finding]:
    opening = float(lid_opening(landmarks))
    if opening >= SHUT_LIDS:
        return []
    return [Finding("shut eyes", "The eyes are shut, or nearly.", "Use a picture with open eyes.", opening)]


def _picture(crop: Tensor, landmarks: Tensor, face_width: float, model_size: int) -> list[Finding]:
    found = []
    wanted = model_size * FACE_FRACTION
    if face_width < wanted:
        found.append(
            Finding(
                "small",
                f"The face is {face_width:.0f} pixels wide; the model draws it at {wanted:.0f}.",
                "Use a larger or closer picture: this one has to be enlarged and stays soft.",
                face_width,
            )
        )
    light = brightness(crop, landmarks)
    if light < LEAST_LIGHT:
        found.append(
            Finding("dark", "The face is very dark.", "Use a picture with light on the face, or brighten it.", light)
        )
    sharp = sharpness(crop, landmarks)
    if sharp < LEAST_SHARPNESS:
        found.append(
            Finding(
                "blurred",
                "The face is blurred.",
                "Use a sharper picture; the video can only be as sharp as it is.",
                sharp,
            )
        )
    return found


def brightness(crop: Tensor, landmarks: Tensor) -> float:
    """Lightness in [0, 1] that a twentieth of the face exceeds: also dark skin has bright places in good light."""
    return float(_around(luminance(crop), landmarks[:64], 0.0).flatten().quantile(0.95))


def sharpness(crop: Tensor, landmarks: Tensor) -> float:
    """Finest detail around eyes and mouth over all detail there, in the crop at 128 px: about 0.2 to 0.3 if sharp."""
    small = functional.interpolate(
        crop[None], size=(SHARPNESS_SIZE, SHARPNESS_SIZE), mode="bilinear", antialias=True, align_corners=False
    )[0]
    light = luminance(small)
    fine = light - functional.avg_pool2d(light[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    ratios = []
    for group in (LIDS, LIPS):
        part = _around(torch.stack([light, fine]), landmarks[group], 0.02)
        ratios.append(part[1].std() / part[0].std().clamp_min(1e-3))
    return float(max(ratios))


def _around(maps: Tensor, points: Tensor, margin: float) -> Tensor:
    """The part of maps ``[..., h, w]`` in the box of points in [0, 1]."""
    height, width = maps.shape[-2:]
    low = (points.amin(0) - margin).clamp(0, 1)
    high = (points.amax(0) + margin).clamp(0, 1)
    left, right = int(low[0] * width), max(int(low[0] * width) + 2, math.ceil(float(high[0]) * width))
    top, bottom = int(low[1] * height), max(int(low[1] * height) + 2, math.ceil(float(high[1]) * height))
    return maps[..., min(top, height - 2) : bottom, min(left, width - 2) : right]


CHEEKS = (52, 53)
_FINE = 7
"""Side of the mean, in pixels, over which texture is fine."""
_HAIR_WEIGHTS: tuple[tuple[float, ...], ...] = (
    (-0.685, 12.098, 8.284, -1.052),
    (0.638, -1.765, 5.406, -0.065),
    (-0.703, 3.965, 12.775, -1.539),
)
_HAIR_BIAS = -5.181


def facial_hair_score(crop: Tensor, landmarks: Tensor) -> float:
    """Log-odds that a face wears a beard or a moustache.

    Args:
        crop: ``[3, s, s]`` in [0, 1], about 192 to 256 px; landmarks: ``[68, 2]`` in [0, 1] of it.

    The weights of a logistic regression on 666 portraits (35 with beards), labelled by eye.
    """
    found = facial_hair_features(crop, landmarks)
    return float((found * torch.tensor(_HAIR_WEIGHTS)).sum()) + _HAIR_BIAS


def facial_hair_features(crop: Tensor, landmarks: Tensor) -> Tensor:
    """``[3, 4]`` for chin, jaw and upper lip: log-ratio of lightness to that of the cheekbones, its square, fine
    texture, spread of lightness. The last two are over the cheekbones'. The square is for beards, which are darker or
    whiter than skin."""
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
