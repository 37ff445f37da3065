"""The 68 facial landmarks, the 6 pose numbers and the 16 facial values shared by every module.

A landmark is a fixed point of the face: the same spot of skin on every person. "Right" and "left" in names are the
person's; the person's right side is on the LEFT of an unmirrored picture. The order, with picture directions:

====== ============================================================================================
0-11   outer lip contour: 0 corner at the picture's left, 1-5 upper edge towards the right (3 is the
       middle), 6 corner at the right, 7-11 lower edge back to the left (9 is the middle)
12-19  inner lip edges: 12 inner corner at the left, 13-15 upper lip (14 middle), 16 inner corner at
       the right, 17-19 lower lip from right to left (18 middle)
20-27  eye at the picture's left: 20 outer corner, 21-23 upper lid edge towards the nose, 24 inner
       corner, 25-27 lower lid edge back to the outer corner
28-35  eye at the picture's right, in the same anatomical order (outer corner first)
36-40  brow at the picture's left, outer end to inner end; 41-45 the other, outer end to inner end
46-51  nose: bridge at the eyes, middle of the bridge, tip, base above the lip, wing left, wing right
52-53  cheekbones, left and right
54     chin; 55-57 jaw line from the chin up to the ear at the left; 58-60 at the right
61-63  temple left, temple right, middle of the forehead
64-67  neck: upper left, upper right, lower left, lower right
====== ============================================================================================

Coordinates are (x, y) in [0, 1] of the square face crop, x to the right, y down.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

NUM_LANDMARKS = 68

LIPS = slice(0, 20)
LIDS = slice(20, 36)
FACE = slice(36, 64)
NECK = slice(64, 68)

OUTER_LIPS = slice(0, 12)
INNER_LIPS = slice(12, 20)
EYE_PICTURE_LEFT = slice(20, 28)
EYE_PICTURE_RIGHT = slice(28, 36)
BROW_PICTURE_LEFT = slice(36, 41)
BROW_PICTURE_RIGHT = slice(41, 46)

LIP_CORNERS: tuple[int, int] = (0, 6)
INNER_LIP_PAIRS: tuple[tuple[int, int], ...] = ((13, 19), (14, 18), (15, 17))
"""(upper, lower) points of the inner lip edges that face each other."""

LID_PAIRS: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]] = (
    ((21, 27), (22, 26), (23, 25)),
    ((29, 35), (30, 34), (31, 33)),
)
"""(upper, lower) lid points that face each other, of the eye at the picture's left and right."""
EYE_CORNERS: tuple[tuple[int, int], tuple[int, int]] = ((20, 24), (28, 32))
"""(outer, inner) corner of the eye at the picture's left and right."""

_FACING = (*INNER_LIP_PAIRS, *LID_PAIRS[0], *LID_PAIRS[1])


def _pushed_down() -> tuple[tuple[float, ...], ...]:
    """How far points go down for each unit by which a pair of :data:`_FACING` crossed, ``[9, 68]``."""
    rows = [[0.0] * 68 for _ in _FACING]
    for row, (upper, lower) in zip(rows, _FACING, strict=True):
        row[upper], row[lower] = -0.5, 0.5
    # Outer edges of the lips: (pair, above, below), the ends of the edge by half.
    for pair, above, below, share in ((0, 1, 11, 0.5), (0, 2, 10, 1), (1, 3, 9, 1), (2, 4, 8, 1), (2, 5, 7, 0.5)):
        rows[pair][above], rows[pair][below] = -0.5 * share, 0.5 * share
    return tuple(map(tuple, rows))


_PUSHED_DOWN = _pushed_down()

_SWAPS: tuple[tuple[int, int], ...] = (
    (0, 6), (1, 5), (2, 4), (7, 11), (8, 10), (12, 16), (13, 15), (17, 19),
    *((i, i + 8) for i in range(20, 28)),
    *((i, i + 5) for i in range(36, 41)),
    (50, 51), (52, 53),
    *((i, i + 3) for i in range(55, 58)),
    (61, 62), (64, 65), (66, 67),
)  # fmt: skip


def _mirror() -> tuple[int, ...]:
    order = list(range(NUM_LANDMARKS))
    for a, b in _SWAPS:
        order[a], order[b] = b, a
    return tuple(order)


MIRROR: tuple[int, ...] = _mirror()
"""``landmarks[MIRROR]`` with x replaced by 1 - x are the landmarks of the picture flipped left to right."""

RIGID: tuple[int, ...] = (46, 47, 48, 49, 57, 60, 61, 62, 63, 64, 65, 66, 67)
"""Landmarks that lips, lids and brows do not move (nose, ears' ends of the jaw, temples, forehead, neck)."""

VALUE_NAMES: tuple[str, ...] = (
    "lip_opening",
    "lip_width",
    "lip_protrusion",
    "lip_press",
    "smile",
    "frown",
    "blink_left",
    "blink_right",
    "squint",
    "eye_wide",
    "brow_raise",
    "brow_lower",
    "gaze_x",
    "gaze_y",
    "cheek_puff",
    "nose_wrinkle",
)
"""Facial values, each about 0 at rest and 1 at full strength. Left and right are the person's; ``gaze_x`` is positive
towards the picture's right, ``gaze_y`` positive upwards; ``lip_width`` is negative for rounded lips."""

NUM_VALUES = len(VALUE_NAMES)
FULL_OPENING = 0.3
"""What :func:`lip_opening` measures, about, where the value ``lip_opening`` is 1."""
LIP_VALUES: tuple[int, ...] = (0, 1, 2, 3)
"""Indices of the values that speech moves; the other twelve belong to the expression."""
BLINK_VALUES = slice(VALUE_NAMES.index("blink_left"), VALUE_NAMES.index("blink_right") + 1)
"""The two values of the lids, one after the other."""
VALUE_MIRROR: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15)
VALUE_MIRROR_SIGN: tuple[float, ...] = (1.0,) * 12 + (-1.0,) + (1.0,) * 3
"""``values[VALUE_MIRROR] * VALUE_MIRROR_SIGN`` are the values of the flipped picture."""

POSE_NAMES: tuple[str, ...] = ("yaw", "pitch", "roll", "x", "y", "log_scale")
"""Angles in radians. Yaw is positive when the face turns to the picture's right, pitch when it looks up. Roll is
positive when the head tips towards the picture's right (clockwise). Place (x, y) is the shift of the head's centre from
the crop's in crop widths, y down. Scale is the logarithm of the eye-to-chin height of the unturned head over half a
crop."""
POSE_MIRROR_SIGN: tuple[float, ...] = (-1.0, 1.0, -1.0, -1.0, 1.0, 1.0)
"""``pose * POSE_MIRROR_SIGN`` is the pose of the flipped picture."""


@functools.lru_cache(maxsize=256)
def constant(values: tuple, device: torch.device) -> Tensor:
    """A tensor of (nested tuples of) numbers on ``device``, made once: a GPU's queue would wait for every copy."""
    # One made in inference mode would later be of no use to training.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def eye_centres(landmarks: Tensor) -> Tensor:
    """Midpoints between the corners of each eye, which blinking does not move.

    Args:
        landmarks: ``[..., 68, 2]``.

    Returns:
        ``[..., 2, 2]``: (eye at the picture's left, eye at its right) by (x, y).

    >>> face = torch.zeros(68, 2)
    >>> face[28:36, 0] = 1.0  # the eye at the picture's right
    >>> eye_centres(face)
    tensor([[0., 0.],
            [1., 0.]])
    """
    corners = landmarks[..., constant(EYE_CORNERS, landmarks.device), :]
    return corners.mean(dim=-2)


def inter_ocular_distance(landmarks: Tensor) -> Tensor:
    """Distance between the eye centres, ``[..., 68, 2] -> [...]`` in the landmarks' units.

    >>> face = torch.zeros(68, 2)
    >>> face[28:36, 0] = 0.3  # the eye at the picture's right
    >>> inter_ocular_distance(face)
    tensor(0.3000)
    """
    centres = eye_centres(landmarks)
    return (centres[..., 1, :] - centres[..., 0, :]).norm(dim=-1)


def lip_opening(landmarks: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean gap between the inner lip edges over the inter-ocular distance.

    Args:
        landmarks: ``[..., 68, 2]`` in any isotropic unit.
        eps: smallest inter-ocular distance, against a division by zero.

    Returns:
        ``[...]``, about 0 for closed lips, 0.4 for a wide open mouth; without a unit.

    >>> face = torch.zeros(68, 2)
    >>> face[28:36, 0] = 0.5  # the eye at the picture's right
    >>> face[16:20, 1] = 0.1  # the inner edge of the lower lip
    >>> lip_opening(face)
    tensor(0.2000)
    """
    pairs = constant(INNER_LIP_PAIRS, landmarks.device)
    gap = (landmarks[..., pairs[:, 0], :] - landmarks[..., pairs[:, 1], :]).norm(dim=-1).mean(dim=-1)
    return gap / inter_ocular_distance(landmarks).clamp_min(eps)


def lid_opening(landmarks: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean gap between the lids of both eyes over the inter-ocular distance: ``[..., 68, 2] -> [...]``, 0 when shut."""
    pairs = constant(LID_PAIRS, landmarks.device).reshape(-1, 2)
    gap = (landmarks[..., pairs[:, 0], :] - landmarks[..., pairs[:, 1], :]).norm(dim=-1).mean(dim=-1)
    return gap / inter_ocular_distance(landmarks).clamp_min(eps)


def meeting_landmarks(landmarks: Tensor, eps: float = 1e-6) -> Tensor:
    """Landmarks whose lips and lids meet where they would have crossed.

    Flesh cannot pass through flesh, but a regressed point can: a mouth pressed shut or a blink would come out as an
    opening upside down. Points that crossed are set to their middle, and the lips' outer edges go along, so that lips
    keep their thickness.

    Args:
        landmarks: ``[..., 68, 2]``, y growing downwards.
        eps: smallest inter-ocular distance, against a division by zero.

    Example:
        >>> face = torch.zeros(68, 2)
        >>> face[28:36, 0] = 1.0  # the eye at the picture's right
        >>> face[14, 1], face[18, 1] = 0.2, 0.1  # the upper lip below the lower one
        >>> meeting_landmarks(face)[[14, 18], 1]
        tensor([0.1500, 0.1500])
    """
    pairs = constant(_FACING, landmarks.device)
    centres = eye_centres(landmarks)
    across = centres[..., 1, :] - centres[..., 0, :]
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(eps)
    down = torch.stack([-across[..., 1], across[..., 0]], dim=-1)[..., None, :]
    overlap = ((landmarks[..., pairs[:, 0], :] - landmarks[..., pairs[:, 1], :]) * down).sum(-1).clamp_min(0)
    push = constant(_PUSHED_DOWN, landmarks.device).to(landmarks)
    return landmarks + (overlap @ push)[..., None] * down


def mirror_landmarks(landmarks: Tensor) -> Tensor:
    """Landmarks ``[..., 68, 2]`` in [0, 1] of the left-right flipped picture.

    >>> face = torch.rand(68, 2)
    >>> torch.allclose(mirror_landmarks(mirror_landmarks(face)), face)
    True
    """
    flipped = landmarks[..., constant(MIRROR, landmarks.device), :]
    return torch.stack([1.0 - flipped[..., 0], flipped[..., 1]], dim=-1)


def mirror_values(values: Tensor) -> Tensor:
    """Facial values ``[..., 16]`` of the left-right flipped picture.

    >>> looks_right = torch.zeros(16)
    >>> looks_right[VALUE_NAMES.index("gaze_x")] = 1.0
    >>> float(mirror_values(looks_right)[VALUE_NAMES.index("gaze_x")])
    -1.0
    """
    sign = constant(VALUE_MIRROR_SIGN, values.device).to(values.dtype)
    return values[..., constant(VALUE_MIRROR, values.device)] * sign


def mirror_pose(pose: Tensor) -> Tensor:
    """Head pose ``[..., 6]`` of the left-right flipped picture.

    >>> mirror_pose(torch.tensor([0.1, 0.2, 0.3, 0.0, 0.0, 0.0]))
    tensor([-0.1000,  0.2000, -0.3000, -0.0000,  0.0000,  0.0000])
    """
    return pose * torch.tensor(POSE_MIRROR_SIGN, device=pose.device, dtype=pose.dtype)
