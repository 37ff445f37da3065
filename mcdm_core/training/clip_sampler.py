"""Random stretches of speech with their motion, sound augmented: what the prior and its audio encoder train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import MCDMConfig
from ..models.audio_encoder import normalize_level
from .prior_losses import augment_mels, interpolate, resample_clip


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


@dataclass
class Stretches:
    """A batch. ``mels [b, m, hop (f - 1) + w]`` normalised (see ``LogMelEncoder.encode_stretch``), of the frames at
    ``positions [b, f]`` (real frame numbers of ``clips``), which may lie before a clip or after it."""

    clips: list[MotionClip]
    positions: Tensor
    mels: Tensor

    def of(self, field: str) -> Tensor:
        """``tokens`` or ``values`` at the positions, ``[b, f, ...]``; beyond the ends the end's."""
        rows = zip(self.clips, self.positions, strict=True)
        return torch.stack([resample_clip(getattr(c, field), p) for c, p in rows])

    @property
    def inside(self) -> Tensor:
        """Boolean ``[b, f]``: True where the clip has a frame."""
        last = torch.tensor([len(c.values) - 1 for c in self.clips])
        return (self.positions >= 0) & (self.positions <= last[:, None])


class ClipSampler:
    """Draws stretches of ``before`` frames and ``frames`` more at the configuration's frame rate.

    Args:
        groups: lists of clips (synthetic, real, ...), drawn alike; empty ones are left out.
        frames, before: how many; by default the prior's clip and context.
    """

    def __init__(
        self, config: MCDMConfig, groups: Sequence[list[MotionClip]], seed: int = 0, frames: int | None = None,
        before: int | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.groups = [g for g in groups if g]
        if not self.groups:
            raise ValueError("there are no clips to train on: render or label some first")
        self.frames = config.clip_frames if frames is None else frames
        self.before = config.present_clip_prior.context_frames if before is None else before
        audio = config.audio_encoder
        self.mel_rate = audio.sample_rate / audio.hop_length
        self.hop = round(self.mel_rate / config.fps)
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self, number: int) -> Stretches:
        """A batch of augmented stretches, a part of them slower or faster than they were spoken."""
        clips = []
        for index in range(number):
            group = self.groups[index % len(self.groups)]
            clips.append(group[int(self.random.integers(len(group)))])
        speed = np.exp(self.random.uniform(-0.15, 0.15, number) * (self.random.random(number) < 0.6))
        step = speed * np.array([c.fps for c in clips]) / self.config.fps
        room = np.maximum(0.0, np.array([len(c.values) for c in clips]) - 1 - (self.frames - 1) * step)
        start = torch.from_numpy(self.random.uniform(0, room))
        count = torch.arange(-self.before, self.frames)
        positions = (start[:, None] + count * torch.from_numpy(step)[:, None]).float()
        return Stretches(clips, positions, self.stretches(clips, positions, torch.from_numpy(speed).float()))

    def stretches(self, clips: Sequence[MotionClip], positions: Tensor, speed: Tensor) -> Tensor:
        """Augmented mels ``[b, m, hop (f - 1) + w]`` of consecutive frames; beyond the clips there is silence."""
        audio = self.config.audio_encoder
        lengths = torch.tensor([c.mels.shape[1] for c in clips])
        longest = int(lengths.max())
        # Shorter utterances are repeated to the longest's length: that leaves their loud level as it is, which must
        # be the utterance's, as at inference.
        whole = torch.stack([c.mels[:, torch.arange(longest) % c.mels.shape[1]] for c in clips])
        whole = normalize_level(augment_mels(whole, self.generator), audio.spectral_balance)
        scale = torch.tensor([self.mel_rate / c.fps for c in clips])
        columns = torch.arange(self.hop * (positions.shape[1] - 1) + audio.window_frames) - audio.window_frames / 2
        at = ((positions[:, 0] + 0.5) * scale)[:, None] + columns * speed[:, None]
        outside = (at < 0) | (at > lengths[:, None] - 1)
        return interpolate(whole, at, -1).masked_fill(outside[:, None], -1.0)
