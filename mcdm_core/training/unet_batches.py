"""Batches of the image denoiser: target frames with the archived frames they pair with, and noise levels.

A sample of the paper is 32 consecutive frames, 16 of archive and 16 of target (method.md, section 4). The archive is
augmented (C): noise, blur, colour, shift, the model's own estimates, or the reference repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from .unet_data import Clip, LatentClips


@dataclass
class Batch:
    """Clips ready for the denoiser: latents ``[b, f, c, h, w]``, archive of the same shape, reference ``[b, c, h, w]``,
    guide ``[b, f, g, h, w]``, landmarks ``[b, f, 68, 2]``, motion ``[b, f, m, dm]`` or None; the true pictures
    ``[b, p, 3, H, W]`` of the p frames ``shown`` of each clip, or None."""

    latents: Tensor
    archive: Tensor
    reference: Tensor
    guide: Tensor | None
    landmarks: Tensor
    motion: Tensor | None
    pictures: Tensor | None
    shown: list[int]
    sources: list[tuple[Clip, list[int]]]


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
    rows: list[tuple[Tensor, ...]] = []
    sources: list[tuple[Clip, list[int]]] = []
    lag = frames if consecutive else length
    for _ in range(clips):
        clip = data.draw(random)
        short = clip.length < 2 * length
        if consecutive:
            starts = np.arange(lag, clip.length - frames + 1)
            start = int(random.choice(starts[starts % every == 0] if (starts % every == 0).any() else starts))
            indices = list(range(start, start + frames))
        else:
            first = 0 if short else lag
            candidates = np.arange(first, clip.length)
            fewer = candidates[candidates % every == 0]
            chosen = random.choice(fewer if len(fewer) >= frames else candidates, frames, replace=False)
            indices = sorted(int(i) for i in chosen)
        reference = data.reference(clip)
        if random.random() < 0.25 or (short and not consecutive):
            archive = reference[None].expand(frames, -1, -1, -1)
        else:
            past = data.archived(clip, [i - lag for i in indices], own=random.random() < 0.4)
            archive = augment_archive(past, random)
        rows.append((data.get("latents", clip, indices), archive, reference, clip.landmarks[torch.tensor(indices)]))
        sources.append((clip, indices))
    latents, archive, reference, landmarks = (torch.stack(parts) for parts in zip(*rows, strict=True))
    guide = None
    if data.config.unet.warped_reference:
        guide = torch.stack([data.get("guide", *source) for source in sources])
    tokens = torch.stack([data.get("motion", *source) for source in sources]) if motion else None
    shown = sorted(int(i) for i in random.choice(frames, min(pictures, frames), replace=False))
    true = None
    if shown:
        true = torch.stack([clip.frames([indices[i] for i in shown]) for clip, indices in sources])
    return Batch(latents, archive, reference, guide, landmarks, tokens, true, shown, sources)


def augment_archive(latents: Tensor, random: np.random.Generator) -> Tensor:
    """Disturb archived latents ``[f, c, h, w]`` as drift does, one draw a clip: noise, blur, colour, shift."""
    channels = latents.shape[1]
    result = latents
    if random.random() < 0.4:
        result = result + float(random.uniform(0, 0.4)) * torch.randn_like(result)
    if random.random() < 0.3:
        blurred = functional.avg_pool2d(functional.pad(result, (1, 1, 1, 1), mode="replicate"), 3, 1)
        result = result + float(random.uniform(0, 1)) * (blurred - result)
    if random.random() < 0.3:
        gain = 1 + 0.1 * torch.randn(1, channels, 1, 1)
        result = result * gain + 0.15 * torch.randn(1, channels, 1, 1)
    if random.random() < 0.2:
        dy, dx = (int(v) for v in random.integers(-1, 2, 2))
        result = result.roll((dy, dx), (2, 3))
    return result


def sample_timesteps(clips: int, regression_share: float, top: int) -> Tensor:
    """``[clips]`` timesteps in [0, top]: ``top`` itself for a share, of the rest half near the top, half anywhere."""
    anywhere, near = torch.rand(clips) * top, top * (1 - 0.12 * torch.rand(clips))
    spread = torch.where(torch.rand(clips) < 0.5, near, anywhere).clamp(min=10.0)
    return torch.where(torch.rand(clips) < regression_share, torch.full_like(spread, float(top)), spread)
