"""Batches of the image denoiser: target frames with the archived frames they pair with, and noise levels.

A sample of the paper is 32 consecutive frames, 16 of archive and 16 of target (method.md, section 4). The archive is
augmented (C): noise, blur, colour, shift, the model's own estimates, or the reference repeated. Which frames make a
batch is drawn on the CPU; their tensors are gathered and augmented where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from .data import LatentClips, Rows


@dataclass
class Batch:
    """Clips ready for the denoiser: latents ``[b, f, c, h, w]``, archive of the same shape, reference ``[b, c, h, w]``,
    guide ``[b, f, g, h, w]``, landmarks ``[b, f, 68, 2]``, motion ``[b, f, m, dm]`` or None. Beside them the true
    pictures ``[b, p, 3, H, W]`` of the p frames ``shown`` of each clip, or None, and the frames' rows ``[b, f]``."""

    latents: Tensor
    archive: Tensor
    reference: Tensor
    guide: Tensor | None
    landmarks: Tensor
    motion: Tensor | None
    pictures: Tensor | None
    shown: list[int]
    rows: Rows


def sample_batch(
    data: LatentClips,
    clips: int,
    frames: int,
    random: np.random.Generator,
    *,
    motion: bool,
    consecutive: bool,
    pictures: int = 0,
    every: int = 1,
) -> Batch:
    """Draw clips and of each the target frames with the archived frames they pair with.

    Args:
        frames: of each clip, of its 16 targets.
        consecutive: stage 3 needs neighbouring frames, the clip and archive being ``frames`` long; otherwise any
            ``frames`` of the 16.
        pictures: the true pictures of so many frames of every clip come along.
        every: draw only frames (consecutive: first frames) whose number is a multiple of this: fewer to encode.
    """
    length = data.config.clip_frames
    lag = frames if consecutive else length
    drawn = data.draw(clips, random)
    lengths, first = data.frames.length[drawn], data.frames.first[drawn]
    short = lengths < 2 * length
    if consecutive:
        numbers = np.stack([_first_frame(int(n), frames, every, random) + np.arange(frames) for n in lengths])
    else:
        numbers = np.stack(
            [_any_frames(int(n), 0 if s else lag, frames, every, random) for n, s in zip(lengths, short, strict=True)]
        )
    rows = first[:, None] + numbers
    references = data.references(drawn, random)
    reference = data.latents(references)
    repeated = (random.random(clips) < 0.25) | (short & (not consecutive))
    past = np.where(repeated[:, None], rows, first[:, None] + numbers - lag)
    own = torch.from_numpy(random.random(clips) < 0.4).to(data.device)
    archive = augment_archive(data.archived(past, own))
    still = torch.from_numpy(repeated).to(data.device)[:, None, None, None, None]
    archive = torch.where(still, reference[:, None], archive)
    guide = data.guide(rows, references) if data.config.unet.warped_reference else None
    tokens = data.motion(rows) if motion else None
    shown = sorted(int(i) for i in random.choice(frames, min(pictures, frames), replace=False))
    true = None
    if shown:
        true = data.frames.pictures(rows[:, shown].reshape(-1)).unflatten(0, (clips, len(shown)))
    return Batch(data.latents(rows), archive, reference, guide, data.frames.points(rows), tokens, true, shown, rows)


def _first_frame(length: int, frames: int, every: int, random: np.random.Generator) -> int:
    """The first of ``frames`` neighbouring targets, which have as many archived frames before them."""
    starts = np.arange(frames, length - frames + 1)
    fewer = starts[starts % every == 0]
    return int(random.choice(fewer if len(fewer) else starts))


def _any_frames(length: int, first: int, frames: int, every: int, random: np.random.Generator) -> Rows:
    """Numbers ``[frames]``, ascending, of different target frames from ``first`` on."""
    candidates = np.arange(first, length)
    fewer = candidates[candidates % every == 0]
    return np.sort(random.choice(fewer if len(fewer) >= frames else candidates, frames, replace=False))


def augment_archive(latents: Tensor) -> Tensor:
    """Disturb archived latents ``[b, f, c, h, w]`` as drift does, one draw a clip: noise, blur, colour, shift."""
    clips, frames, channels, height, width = latents.shape
    device = latents.device

    def some(chance: float) -> Tensor:
        return (torch.rand(clips, 1, 1, 1, 1, device=device) < chance).to(latents)

    result = latents + some(0.4) * 0.4 * torch.rand(clips, 1, 1, 1, 1, device=device) * torch.randn_like(latents)
    padded = functional.pad(result.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    blurred = functional.avg_pool2d(padded, 3, 1).unflatten(0, (clips, frames))
    result = result + some(0.3) * torch.rand(clips, 1, 1, 1, 1, device=device) * (blurred - result)
    coloured = some(0.3)
    gain = 1 + coloured * 0.1 * torch.randn(clips, 1, channels, 1, 1, device=device)
    result = result * gain + coloured * 0.15 * torch.randn(clips, 1, channels, 1, 1, device=device)
    moved = some(0.2).view(clips, 1).long() * torch.randint(-1, 2, (clips, 2), device=device)
    clip = torch.arange(clips, device=device)[:, None, None]
    down = (torch.arange(height, device=device) - moved[:, :1])[:, :, None] % height
    across = (torch.arange(width, device=device) - moved[:, 1:])[:, None, :] % width
    return result.permute(0, 3, 4, 1, 2)[clip, down, across].permute(0, 3, 4, 1, 2)


def sample_timesteps(clips: int, regression_share: float, top: int) -> Tensor:
    """``[clips]`` timesteps in [0, top]: ``top`` itself for a share, of the rest half near the top, half anywhere."""
    anywhere, near = torch.rand(clips) * top, top * (1 - 0.12 * torch.rand(clips))
    spread = torch.where(torch.rand(clips) < 0.5, near, anywhere).clamp(min=10.0)
    return torch.where(torch.rand(clips) < regression_share, torch.full_like(spread, float(top)), spread)
