"""Blinks for models whose motion codec does not carry them.

A choice of ours beside the paper: blinks are rare and short, so a codec trained for minutes learns to leave them out,
and a face that never blinks looks like a picture. They are laid over the decoded landmarks as what they are, upper
lids going down to the lower ones; everything after (warp, drawn landmarks, denoiser) treats them like any other motion.
When somebody blinks depends on the seed and the time alone, so a resumed video blinks as the whole one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..face.landmarks import BLINK_VALUES, LID_PAIRS

WINDOW = 4.0
"""There is one blink in every window of so many seconds, at a random moment of it."""
CLOSING, CLOSED, OPENING = 0.08, 0.05, 0.17
"""Seconds of a blink's parts."""
LOWER_SHARE = 0.15
"""How far the lower lid comes up, as a part of the gap."""


def blink_curve(seed: int, first_frame: int, num_frames: int, fps: float) -> Tensor:
    """How closed the lids are in frames ``first_frame`` on: [num_frames] in [0, 1]."""
    time = (torch.arange(first_frame, first_frame + num_frames) + 0.5) / fps
    closed = torch.zeros(num_frames)
    for window in range(int(float(time[0]) // WINDOW) - 1, int(float(time[-1]) // WINDOW) + 1):
        if window < 0:
            continue
        generator = torch.Generator().manual_seed((seed * 9_176_213 + window * 104_729 + 17) % (2**63 - 1))
        begin = (window + 0.2 + 0.7 * float(torch.rand((), generator=generator))) * WINDOW
        since = time - begin
        falling = (since / CLOSING).clamp(0, 1)
        rising = 1 - ((since - CLOSING - CLOSED) / OPENING).clamp(0, 1)
        closed = torch.maximum(closed, torch.minimum(falling, rising))
    return 0.5 - 0.5 * torch.cos(closed * math.pi)


def close_lids(landmarks: Tensor, amount: Tensor) -> Tensor:
    """Landmarks [f, 68, 2] with the lids closed by ``amount`` [f]; 1 brings the edges together."""
    pairs = torch.tensor(LID_PAIRS, device=landmarks.device).reshape(-1, 2)
    upper, lower = pairs[:, 0], pairs[:, 1]
    gap = (landmarks[:, lower] - landmarks[:, upper]) * amount.to(landmarks)[:, None, None]
    moved = landmarks.clone()
    moved[:, upper] += (1 - LOWER_SHARE) * gap
    moved[:, lower] -= LOWER_SHARE * gap
    return moved


def add_blinks(
    landmarks: Tensor, values: Tensor, seed: int, first_frame: int, fps: float
) -> tuple[Tensor, Tensor]:
    """Lay the blinks of a video's frames over its landmarks [f, 68, 2] and facial values [f, 16].

    Lids the model has closed already are not closed twice: only what is missing is added.
    """
    wanted = blink_curve(seed, first_frame, len(landmarks), fps).to(landmarks)
    present = values[:, BLINK_VALUES].mean(1).clamp(0, 1)
    missing = ((wanted - present) / (1 - present).clamp_min(1e-3)).clamp(0, 1)
    values = values.clone()
    values[:, BLINK_VALUES] = torch.maximum(values[:, BLINK_VALUES], wanted[:, None])
    return close_lids(landmarks, missing), values
