"""A head turned by hand (yaw, pitch, roll), told in head tokens.

A choice of ours beside the paper. The portrait's rigid landmarks are turned in space, with the depths of an average
head. The landmark guider reads them as it would a driver's (section 3.3). The tokens' change is what a motion gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..face.landmarks import NUM_LANDMARKS, RIGID
from ..models.motion_codec import MotionCodec

TURNS: dict[str, float] = {"yaw": 20.0, "pitch": 12.0, "roll": 12.0}
"""Degrees that landmarks are turned by at 1; each runs from -1 to 1. Signs as in ``landmarks.POSE_NAMES``. Positive yaw
turns the face to the picture's right, positive pitch lifts it, positive roll tips the head to the picture's right. The
codec of ``tiny`` gives back some 19, 11 and 11 of these degrees (two portraits); what is asked for beyond smears the
warp."""
_SIDES = (61, 62, 57, 60)
"""Temples and ends of the jaw line: about the plane that the head turns in."""
_DEPTH = {46: 1.2, 47: 1.35, 48: 1.6, 49: 1.35, 57: 0.1, 60: 0.1, 61: 0.35, 62: 0.35, 63: 1.15, 64: 0.2, 65: 0.2}
"""Distance of rigid landmarks before that plane, in half widths of the head."""
_FOLLOWS = {64: 0.4, 65: 0.4, 66: 0.0, 67: 0.0}
"""Share of the turn that the neck takes part in, from its upper to its lower end; all else turns fully."""


def turned_landmarks(landmarks: Tensor, amounts: Mapping[str, float]) -> Tensor:
    """Landmarks ``[68, 2]`` of a head with its rigid ones turned.

    Args:
        landmarks: of the portrait, in [0, 1] of the crop; amounts: by :data:`TURNS`, in [-1, 1].
    """
    yaw, pitch, roll = (math.radians(degrees * amounts.get(name, 0.0)) for name, degrees in TURNS.items())
    points = landmarks.float()
    centre = points[list(_SIDES)].mean(0)
    half = (points[62] - points[61]).norm() / 2
    depth, share = points.new_zeros(NUM_LANDMARKS), points.new_ones(NUM_LANDMARKS)
    depth[list(_DEPTH)] = points.new_tensor(list(_DEPTH.values())) * half
    share[list(_FOLLOWS)] = points.new_tensor(list(_FOLLOWS.values()))
    x, y = (points - centre).unbind(-1)
    # x to the right, y down, depth towards the camera.
    x, depth = x * math.cos(yaw) + depth * math.sin(yaw), depth * math.cos(yaw) - x * math.sin(yaw)
    y = y * math.cos(pitch) - depth * math.sin(pitch)
    x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
    moved = torch.lerp(points, torch.stack([x, y], -1) + centre, share[:, None])
    result = points.clone()
    result[list(RIGID)] = moved[list(RIGID)]
    return result.to(landmarks)


@torch.no_grad()
def turn_shift(codec: MotionCodec, landmarks: Tensor, amounts: Mapping[str, float]) -> Tensor:
    """Change of normalised head tokens ``[nh, dm]`` that turns a portrait's head.

    Args:
        landmarks: ``[68, 2]`` of the portrait; amounts: see :func:`turned_landmarks`.
    """
    both = torch.stack([landmarks, turned_landmarks(landmarks, amounts)])
    still, turned = codec.encode_head(both[None].to(codec.token_mean.device))[0]
    return turned - still
