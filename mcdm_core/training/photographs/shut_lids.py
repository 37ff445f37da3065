"""Photographs with their eyes painted shut or half shut: what hardly any portrait shows (ours, beside the paper).

A warp cannot close an eye: it squeezes the iris and pulls the brow down. Here the gap between the lids is filled with
the skin around it. A line of lashes is drawn where the lids meet, with a crease above. A network that paints a blink
learns from it that a closed eye of a sharp portrait has lashes, and that the brow stays. Half shut, the upper lid
covers the iris and does not squeeze it.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from ...face.landmarks import EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT
from ...media.pixels import to_bytes, to_unit

_FINE = 4
"""Lines are drawn on a picture so many times larger."""
_COARSE = 0.25
"""Skin is filled in at this part of the larger picture's size, where a gap is a few pixels wide."""
_LASHES, _CREASE = 60, 0.22
_GRAIN = 3.0
"""Deviation of the skin's grain, of 255."""
_SHADOW = 0.35
"""How much a half-shut lid darkens the eye right below it."""


def shut_lids(
    picture: Tensor, landmarks: Tensor, random: np.random.Generator, *, gap: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A portrait with both eyes shut, or half shut.

    Args:
        picture: ``[3, s, s]`` in [-1, 1]; landmarks: ``[68, 2]`` in [0, 1]; random: of lashes, crease and grain.
        gap: how much of the portrait's opening stays, 0 (shut) to 1.

    Returns:
        Picture and landmarks of the same shapes. The upper lid's points lie on the painted line, and the lower one's
        with them where the eye is shut.
    """
    size = picture.shape[-1]
    pixels = np.ascontiguousarray(rearrange(to_bytes(picture), "c h w -> h w c").cpu().numpy())
    large = np.array(cv2.resize(pixels, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC), np.uint8)
    closed = landmarks.clone()
    for points in (EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT):
        eye = landmarks[points].double().cpu().numpy() * size * _FINE
        low = gap or random.uniform(0.02, 0.2)
        meeting = eye[[7, 6, 5]] * (1 - low) + eye[[1, 2, 3]] * low
        _shut_eye(large, eye, np.concatenate([eye[:1], meeting, eye[4:5]]), random, shut=not gap)
        line = torch.from_numpy(meeting / (size * _FINE)).to(landmarks)
        closed[points.start + 1 : points.start + 4] = line
        if not gap:
            closed[points.start + 5 : points.start + 8] = line.flip(0)
    small = torch.from_numpy(cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA))
    return to_unit(rearrange(small, "h w c -> c h w")).to(picture), closed


def _shut_eye(
    large: NDArray[np.uint8],
    eye: NDArray[np.float64],
    meeting: NDArray[np.float64],
    random: np.random.Generator,
    *,
    shut: bool,
) -> None:
    """Paint one eye shut, or down to a line, in place; ``eye [8, 2]`` and the line ``[5, 2]`` in pixels."""
    width = float(np.linalg.norm(eye[4] - eye[0]))
    left, top = np.floor(np.maximum(eye.min(0) - width / 2, 0)).astype(int)
    right, bottom = np.ceil(eye.max(0) + width / 2).astype(int)
    cut = np.ascontiguousarray(large[top:bottom, left:right])
    if cut.size == 0 or width < _FINE:
        return  # outside of the picture, or too small to be seen
    eye, meeting = eye - (left, top), meeting - (left, top)
    gap = _gap(cut.shape[:2], eye, round(0.09 * width))
    skin = _filled(cut, gap)
    grain = cv2.GaussianBlur(random.normal(size=cut.shape[:2]).astype(np.float32), (0, 0), 1.6) * _GRAIN
    edge = cv2.GaussianBlur(gap.astype(np.float32) / 255, (0, 0), 0.05 * width)[..., None]
    line = _curve(meeting)
    eyeball = cut.astype(np.float32)
    if not shut:
        lid_side = _above(cut.shape[:2], line, 0.012 * width)
        edge = edge * lid_side
        falling = cv2.GaussianBlur(lid_side, (0, 0), 0.05 * width)[..., None]
        eyeball = eyeball * (1 - _SHADOW * falling * (1 - lid_side) * (gap > 0)[..., None])
    lid = eyeball * (1 - edge) + (skin + grain[..., None]) * edge
    arch = np.sin(np.pi * np.linspace(0, 1, len(line)))[:, None]
    crease = _drawn(cut.shape[:2], line - [[0, width * random.uniform(0.2, 0.3)]] * arch, 0.04 * width, 0.05 * width)
    lashes = _drawn(cut.shape[:2], line, width * random.uniform(0.03, 0.065), 0.018 * width)
    lashes = np.clip(lashes * random.uniform(0.5, 0.95), 0, 1)
    dark = np.percentile(cut[gap > 0].reshape(-1, 3), 4, axis=0)
    painted = lid * (1 - _CREASE * crease) * (1 - lashes) + dark * lashes
    large[top:bottom, left:right] = np.clip(np.rint(painted), 0, 255)


def _gap(shape: tuple[int, int], eye: NDArray[np.float64], margin: int) -> NDArray[np.uint8]:
    """255 between the lids and on the lashes ``[h, w]``."""
    gap = np.zeros(shape, np.uint8)
    cv2.fillPoly(gap, [cv2.convexHull(np.rint(eye).astype(np.int32))], 255)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return np.asarray(cv2.dilate(gap, disc), np.uint8)


def _filled(cut: NDArray[np.uint8], gap: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The skin around, grown into the gap."""
    small = cv2.resize(cut, None, fx=_COARSE, fy=_COARSE, interpolation=cv2.INTER_AREA)
    hole = cv2.resize(gap, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    grown = cv2.inpaint(small, np.where(hole > 20, 255, 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return np.asarray(cv2.resize(grown, (cut.shape[1], cut.shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth line ``[60, 2]`` along five points."""
    at, along = np.linspace(0, 1, len(points)), np.linspace(0, 1, _LASHES)
    lines = [np.polyval(np.polyfit(at, points[:, axis], 3), along) for axis in (0, 1)]
    return np.asarray(np.stack(lines, 1), np.float64)


def _above(shape: tuple[int, int], line: NDArray[np.float64], soft: float) -> NDArray[np.float32]:
    """1 above a line from corner to corner, 0 below it, ``[h, w, 1]``."""
    left, right = sorted((line[0], line[-1]), key=lambda corner: float(corner[0]))
    inside = line if line[0][0] <= line[-1][0] else line[::-1]
    far = float(shape[1])
    outline = [[left[0] - far, left[1]], *inside, [right[0] + far, right[1]]]
    outline += [[right[0] + far, -far], [left[0] - far, -far]]
    drawn = np.zeros(shape, np.uint8)
    bits = 4
    cv2.fillPoly(drawn, [np.rint(np.array(outline) * 2**bits).astype(np.int32)], 255, cv2.LINE_AA, bits)
    return np.asarray(cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), soft), np.float32)[..., None]


def _drawn(shape: tuple[int, int], line: NDArray[np.float64], thick: float, soft: float) -> NDArray[np.float32]:
    """A soft line, 1 on it, ``[h, w, 1]``."""
    drawn = np.zeros(shape, np.uint8)
    bits = 4
    ends = [np.rint(line * 2**bits).astype(np.int32)]
    cv2.polylines(drawn, ends, False, 255, max(1, round(thick)), cv2.LINE_AA, bits)
    soft_line = cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), soft)
    return np.asarray(np.clip(soft_line, 0, 1), np.float32)[..., None]
