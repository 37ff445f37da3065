"""A picture of a motion: lip opening, head yaw and blinks over the sound's waveform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import MCDMError
from ..face.landmarks import BLINK_VALUES, VALUE_NAMES, eye_centres
from ..media.pixels import picture_planes
from .motion import Motion

BACKGROUND, GRID, WAVE = (24, 24, 28), (60, 60, 66), (70, 90, 110)
TEXT, MARK = (180, 180, 180), (120, 120, 60)
FINE = 2
"""Drawn so many times larger and reduced, for smooth lines."""
CURVES = (("lip opening", (255, 150, 90)), ("head yaw", (120, 210, 140)), ("blink", (130, 170, 255)))


def motion_curves(motion: Motion) -> dict[str, np.ndarray]:
    """Curves ``[N]`` of a decoded motion.

    ``lip opening`` and ``blink`` (mean of both eyes) are facial values; ``head yaw`` is read off the landmarks. It is
    how far the bridge of the nose lies from the middle between the eyes, over their distance (positive to the right).

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
    return {
        "lip opening": values[:, VALUE_NAMES.index("lip_opening")].numpy(),
        "head yaw": yaw.numpy(),
        "blink": values[:, BLINK_VALUES].mean(1).numpy(),
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
    width, height = (FINE * side for side in size)
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=FINE * 11)
    left, right, top, bottom = FINE * 10, width - FINE * 10, FINE * 8, height - FINE * 24
    curves = motion_curves(motion)
    lane = (bottom - top) / len(CURVES)
    number = len(motion)
    x = left + (np.arange(number) + 0.5) / number * (right - left)
    if waveform is not None:
        _draw_waveform(draw, waveform, left, right, top, lane)
    for second in range(int(motion.seconds) + 1):
        at = round(left + second / motion.seconds * (right - left))
        draw.line((at, top, at, bottom), GRID, FINE)
        draw.text((at + FINE * 2, height - FINE * 20), f"{second} s", TEXT, font)
    for frame in marks:
        at = round(left + frame / number * (right - left))
        draw.line((at, top, at, bottom), MARK, FINE)
    for index, (name, colour) in enumerate(CURVES):
        upper, lower = top + index * lane + FINE * 4, top + (index + 1) * lane - FINE * 4
        series = curves[name]
        low, high = float(series.min()), float(series.max())
        # At least a tenth of full strength fills a lane, so that rest looks like rest.
        middle, span = (low + high) / 2, max(high - low, 0.1)
        y = lower - (series - middle + span / 2) / span * (lower - upper)
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), colour, FINE, joint="curve")
        draw.text((left + FINE * 4, upper), f"{name} {low:.2f} .. {high:.2f}", colour, font)
        draw.line((left, lower + FINE * 4, right, lower + FINE * 4), GRID, FINE)
    return picture_planes(np.array(canvas.reduce(FINE)))


def _draw_waveform(draw: ImageDraw.ImageDraw, waveform: Tensor, left: int, right: int, top: int, lane: float) -> None:
    """Vertical strokes between the extremes of the samples of each pixel column, in the first lane."""
    samples = waveform.detach().float().cpu().flatten().numpy()
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-6)
    centre, half = top + lane / 2, lane / 2 - FINE * 4
    edges = np.linspace(0, len(samples), right - left + 1).astype(int)
    for column in range(right - left):
        part = samples[edges[column] : max(edges[column + 1], edges[column] + 1)]
        if len(part) == 0:
            continue
        high, low = centre - part.max() / peak * half, centre - part.min() / peak * half
        draw.line((left + column, high, left + column, low), WAVE, 1)
