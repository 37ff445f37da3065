"""A picture of a motion: lip opening, head yaw and blinks over the sound's waveform."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from .errors import MCDMError
from .models.landmarks import VALUE_NAMES, eye_centres
from .motion import Motion

BACKGROUND, GRID, WAVE = (24, 24, 28), (60, 60, 66), (70, 90, 110)
CURVES = (("lip opening", (255, 150, 90)), ("head yaw", (120, 210, 140)), ("blink", (130, 170, 255)))


def motion_curves(motion: Motion) -> dict[str, np.ndarray]:
    """Curves ``[N]`` of a decoded motion.

    ``lip opening`` and ``blink`` (mean of both eyes) are facial values; ``head yaw`` is read off the landmarks: how
    far the bridge of the nose lies from the middle between the eyes, over their distance (positive to the right).

    Raises:
        MCDMError: if the motion has not been decoded.
    """
    if motion.values is None or motion.landmarks is None:
        raise MCDMError("this motion has no landmarks and values yet: decode it for a reference first")
    values = motion.values.float().cpu()
    landmarks = motion.landmarks.float().cpu()
    eyes = eye_centres(landmarks)
    across = eyes[:, 1] - eyes[:, 0]
    nose = landmarks[:, 48] - eyes.mean(1)
    yaw = (nose * across).sum(-1) / across.square().sum(-1).clamp_min(1e-6)
    left, right = VALUE_NAMES.index("blink_left"), VALUE_NAMES.index("blink_right")
    return {
        "lip opening": values[:, VALUE_NAMES.index("lip_opening")].numpy(),
        "head yaw": yaw.numpy(),
        "blink": values[:, [left, right]].mean(1).numpy(),
    }


def plot_motion(
    motion: Motion, waveform: Tensor | None = None, size: tuple[int, int] = (960, 420), marks: Sequence[int] = ()
) -> Tensor:
    """Draw the curves, each in a lane of its own, over the waveform.

    Args:
        waveform: ``[t]`` of the same duration, or None; size: width and height in pixels.
        marks: frame numbers where a vertical line is drawn (clip borders).

    Returns:
        ``[3, h, w]`` float in [0, 1].
    """
    width, height = size
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    left, right, top, bottom = 10, width - 10, 8, height - 24
    curves = motion_curves(motion)
    lane = (bottom - top) / len(CURVES)
    number = len(motion)
    x = left + (np.arange(number) + 0.5) / number * (right - left)
    if waveform is not None:
        _draw_waveform(canvas, waveform, left, right, top, lane)
    for second in range(int(motion.seconds) + 1):
        at = round(left + second / motion.seconds * (right - left))
        cv2.line(canvas, (at, top), (at, bottom), GRID, 1)
        cv2.putText(canvas, f"{second} s", (at + 2, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (180, 180, 180), 1)
    for frame in marks:
        at = round(left + frame / number * (right - left))
        cv2.line(canvas, (at, top), (at, bottom), (120, 120, 60), 1)
    for index, (name, colour) in enumerate(CURVES):
        upper, lower = top + index * lane + 4, top + (index + 1) * lane - 4
        series = curves[name]
        low, high = float(series.min()), float(series.max())
        # At least a tenth of full strength fills a lane, so that rest looks like rest.
        middle, span = (low + high) / 2, max(high - low, 0.1)
        y = lower - (series - middle + span / 2) / span * (lower - upper)
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(canvas, [points[:, None]], False, colour, 1, cv2.LINE_AA)
        label = f"{name} {low:.2f} .. {high:.2f}"
        cv2.putText(canvas, label, (left + 4, int(upper) + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
        cv2.line(canvas, (left, int(lower) + 4), (right, int(lower) + 4), GRID, 1)
    return torch.from_numpy(canvas).permute(2, 0, 1).float() / 255


def _draw_waveform(canvas: np.ndarray, waveform: Tensor, left: int, right: int, top: int, lane: float) -> None:
    """Vertical strokes between the extremes of the samples of each pixel column, in the first lane."""
    samples = waveform.detach().float().cpu().flatten().numpy()
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    centre, half = top + lane / 2, lane / 2 - 4
    edges = np.linspace(0, len(samples), right - left + 1).astype(int)
    for column in range(right - left):
        part = samples[edges[column] : max(edges[column + 1], edges[column] + 1)]
        if len(part) == 0:
            continue
        high, low = centre - part.max() / peak * half, centre - part.min() / peak * half
        cv2.line(canvas, (left + column, int(high)), (left + column, int(low)), WAVE, 1)
