"""Random stretches of speech with their motion, sound augmented: what the prior and its audio encoder train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import MCDMConfig
from ..models.audio_encoder import normalize_level
from .prior_losses import augment_mels, resample_clip, window_positions


@dataclass
class MotionClip:
    """A clip ready for the prior. ``tokens [t, nq, dm]`` normalised, ``values [t, 16]``, ``mels [m, j]`` log power
    (not yet levelled), ``references [r, 3, 128, 128]`` uint8, ``landmarks [t, 68, 2]``, ``info`` the metadata."""

    tokens: Tensor
    values: Tensor
    mels: Tensor
    references: Tensor
    landmarks: Tensor
    info: dict
    fps: float


class ClipSampler:
    """Draws stretches of ``context_frames + clip_frames`` frames; every group of clips is drawn alike.

    Args:
        groups: lists of clips (synthetic, real, ...); empty ones are left out.
    """

    def __init__(self, config: MCDMConfig, groups: Sequence[list[MotionClip]], seed: int = 0) -> None:
        self.config = config
        self.groups = [g for g in groups if g]
        if not self.groups:
            raise ValueError("there are no clips to train on: render or label some first")
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self) -> tuple[MotionClip, Tensor, float]:
        """A clip, the real positions of context and clip frames, and the speed."""
        group = self.groups[int(self.random.integers(len(self.groups)))]
        clip = group[int(self.random.integers(len(group)))]
        speed = float(np.exp(self.random.uniform(-0.15, 0.15))) if self.random.random() < 0.6 else 1.0
        context, frames = self.config.present_clip_prior.context_frames, self.config.clip_frames
        room = len(clip.tokens) - 1 - (frames - 1) * speed
        start = float(self.random.uniform(0, max(0.0, room)))
        start = start if speed != 1.0 else float(round(start))
        return clip, start + (torch.arange(-context, frames)) * speed, speed

    def windows(self, clip: MotionClip, positions: Tensor, speed: float) -> Tensor:
        """Augmented windows ``[n, mels, w]``; positions before the clip are silence."""
        audio = self.config.audio_encoder
        mel_rate = audio.sample_rate / audio.hop_length
        at = window_positions(positions, speed, audio.window_frames, mel_rate, clip.fps)
        first = int(at.min().floor()) - 1
        last = int(at.max().ceil()) + 2
        # The level is the utterance's, as at inference; the augmentation is cheap enough for the whole utterance.
        mels = normalize_level(augment_mels(clip.mels, self.generator))
        padded = torch.full((last - first, mels.shape[0]), -1.0)
        low, high = max(first, 0), min(last, mels.shape[1])
        if high > low:
            padded[low - first : high - first] = mels[:, low:high].T
        return resample_clip(padded, at.flatten() - first).unflatten(0, at.shape).transpose(1, 2)
