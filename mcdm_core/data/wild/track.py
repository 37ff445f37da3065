"""One face through a clip: where it is in every frame, what else is there, and the square that is cut out of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...face.reading.face_network import FACE_FRACTION, FaceNetwork, crop_square
from ...media.pixels import frames_to_unit
from .settings import CurateSettings

Squares = NDArray[np.float32]
"""``[t, 3]``: centre x, centre y and side of the canonical square, in pixels."""


@dataclass(frozen=True)
class FaceTrack:
    """What was seen in t frames of a clip.

    Attributes:
        squares: ``[t, 3]``, where no face was seen the last one's; confidence: ``[t]`` in [0, 1].
        looks: frames searched as a whole; several: those of them with a second face of some size.
        luma: mean brightness of the frames, of 255.
    """

    squares: Squares
    confidence: NDArray[np.float32]
    looks: int
    several: int
    luma: float


@torch.no_grad()
def track_face(network: FaceNetwork, frames: Iterable[NDArray[np.uint8]], settings: CurateSettings) -> FaceTrack:
    """Follow the largest face: a search of the whole picture now and then, between them by the landmarks.

    Args:
        network: in evaluation mode; frames: ``[h, w, 3]`` one after the other.
    """
    step = max(1, round(settings.look_every * settings.fps))
    square: tuple[float, float, float] | None = None
    squares, confidences, brightness, looks, several = [], [], [], 0, 0
    for number, frame in enumerate(frames):
        picture = frames_to_unit(frame)
        confidence = 0.0
        brightness.append(float(frame.mean()))
        faces = network.detect(picture) if number % step == 0 else []
        looks += number % step == 0
        if faces:
            widths = [face.right - face.left for face in faces]
            several += len([w for w in widths if w >= settings.second_face * max(widths)]) > 1
            square, confidence = faces[0].square, faces[0].score
        elif square is not None:
            # The framing is that of the first reading, with which the models were trained.
            landmarks, raw = network.forward_raw(crop_square(picture, square, network.input_size)[None])
            confidence = float(raw[0, -1].sigmoid())
            if confidence >= settings.min_confidence:
                corner = torch.tensor([square[0] - square[2] / 2, square[1] - square[2] / 2])
                square = network.canonical_square(landmarks[0] * square[2] + corner)
        squares.append(square or (0.0, 0.0, 0.0))
        confidences.append(confidence)
    return FaceTrack(
        np.array(squares, np.float32).reshape(-1, 3),
        np.array(confidences, np.float32),
        looks,
        several,
        float(np.mean(brightness or [0.0])),
    )


def face_fault(track: FaceTrack, width: int, height: int, settings: CurateSettings) -> tuple[str, dict[str, float]]:
    """Why the face of a clip cannot be used ("" if it can), and what was measured.

    Args:
        width, height: of the picture in the track's pixels.
    """
    seen = track.confidence >= settings.min_confidence
    share = float(seen.mean()) if len(seen) else 0.0
    numbers = {"face_share": share, "several_share": track.several / max(1, track.looks)}
    if numbers["several_share"] > settings.several_share:
        return "several faces", numbers
    if share < settings.face_share:
        # In pictures that are black or white throughout nobody is seen, for another reason.
        unseen = not settings.min_luma / 2 <= track.luma <= (255 + settings.max_luma) / 2
        return "badly exposed" if unseen else "no face", numbers
    squares = track.squares[seen]
    box = FACE_FRACTION * squares[:, 2]
    numbers["face_pixels"] = float(np.median(box))
    left, top = squares[:, 0] - box / 2, squares[:, 1] - box / 2
    beyond = np.maximum.reduce([-left, -top, left + box - width, top + box - height, np.zeros_like(box)])
    numbers["outside"] = float((beyond / box).max())
    moved = np.hypot(np.diff(track.squares[:, 0]), np.diff(track.squares[:, 1]))
    grown = np.abs(np.diff(track.squares[:, 2]))
    numbers["jump"] = float((np.maximum(moved, grown) / track.squares[1:, 2]).max(initial=0.0))
    if numbers["face_pixels"] < settings.min_face:
        return "too small", numbers
    if numbers["outside"] > settings.max_outside:
        return "cut off", numbers
    if numbers["jump"] > settings.max_jump:
        return "jumping", numbers
    return "", numbers


def smooth_squares(squares: Squares, fps: int, reach: float) -> Squares:
    """The squares that are cut out: fixed where the head stays about its place, else following it within a second.

    The model's own crop is fixed for a whole video, so a clip with a fixed one is what it meets later.

    Args:
        reach: how far a head may stray from the fixed square, over its side.

    Returns:
        ``[t, 3]``, all of one side.
    """
    middle = np.median(squares, axis=0)
    stray = np.abs(squares[:, :2] - middle[:2]).max() / max(float(middle[2]), 1.0)
    if stray <= reach:
        return np.broadcast_to(middle, squares.shape).astype(np.float32).copy()
    sigma = float(fps)
    offsets = np.arange(-3 * fps, 3 * fps + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(squares[:, :2], ((3 * fps, 3 * fps), (0, 0)), mode="edge")
    calm = np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(2)], axis=1)
    # Large enough that the face stays inside where it moves faster than the square.
    left_over = np.abs(squares[:, :2] - calm).max()
    side = float(middle[2]) + 2 * max(0.0, float(left_over) - reach * float(middle[2]))
    return np.concatenate([calm, np.full((len(calm), 1), side)], axis=1).astype(np.float32)


def cut_square(frame: NDArray[np.uint8], square: NDArray[np.float32], size: int) -> torch.Tensor:
    """A square of a large frame as ``[3, size, size]`` in [-1, 1], edges repeated; only its surroundings are read."""
    x, y, side = (float(value) for value in square)
    height, width = frame.shape[:2]
    left, top = min(max(0, int(x - side)), width - 2), min(max(0, int(y - side)), height - 2)
    part = frame[top : max(top + 2, int(y + side) + 1), left : max(left + 2, int(x + side) + 1)]
    return crop_square(frames_to_unit(np.ascontiguousarray(part)), (x - left, y - top, side), size)
