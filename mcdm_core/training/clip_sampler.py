"""Random segments of speech with their motion, sound augmented: what the prior and its audio encoder train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import MCDMConfig
from ..errors import MCDMError
from ..media.pixels import to_unit
from ..models.audio_encoder import normalize_level
from .prior.losses import augment_mels, interpolate
from .random_state import Draws


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


class ClipBank:
    """All clips of some groups in flat tensors on one device, so that a batch is a few gathers.

    Args:
        groups: lists of clips (synthetic, real, ...); empty ones are left out.
        device: where the tensors lie.

    Attributes:
        clips: the clips one after the other, group by group; ``group_first`` and ``group_size [g]`` (numpy) their
            places. ``first`` and ``length [c]`` are a clip's rows in ``tokens [n, nq, dm]`` and ``values [n, 16]``.
            ``mel_first`` and ``mel_length [c]`` are its columns in ``mels [m, j]``. ``references [c, r, 3, 128, 128]``
            are its pictures in bytes (as many as the clip with the fewest has). ``fps``, ``frames`` and ``columns [c]``
            (numpy) repeat the rates and lengths for drawing. ``opened [n, nq, dm]``, if set, are the tokens of faces
            that do not blink.
    """

    def __init__(self, groups: Sequence[Sequence[MotionClip]], device: torch.device | str = "cpu") -> None:
        groups = [g for g in groups if g]
        if not groups:
            raise MCDMError("There are no clips to train on; render or label some first.")
        self.device = torch.device(device)
        self.clips = [clip for group in groups for clip in group]
        self.group_size = np.array([len(g) for g in groups])
        self.group_first = self.group_size.cumsum() - self.group_size
        self.fps = np.array([c.fps for c in self.clips])
        self.frames = np.array([len(c.values) for c in self.clips])
        self.columns = np.array([c.mels.shape[1] for c in self.clips])
        self.length, self.first = self._spans(self.frames)
        self.mel_length, self.mel_first = self._spans(self.columns)
        self.tokens = torch.cat([c.tokens for c in self.clips]).to(self.device)
        self.opened: Tensor | None = None
        self.values = torch.cat([c.values for c in self.clips]).to(self.device)
        self.mels = torch.cat([c.mels for c in self.clips], dim=1).to(self.device)
        kept = min(len(c.references) for c in self.clips)
        self.references = torch.stack([c.references[:kept] for c in self.clips]).to(self.device)

    def _spans(self, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
        length = torch.from_numpy(lengths)
        return length.to(self.device), (length.cumsum(0) - length).to(self.device)

    def each_tokens(self) -> list[Tensor]:
        """The tokens ``[t, nq, dm]`` of each clip."""
        return list(self.tokens.split(self.frames.tolist()))

    def send(self, numbers: np.ndarray) -> Tensor:
        """Numbers drawn on the CPU as a tensor on the device, without waiting for it."""
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device, non_blocking=True)

    def resample(self, field: str, clips: Tensor, positions: Tensor) -> Tensor:
        """``tokens``, ``opened`` or ``values`` of ``clips [b]``, linearly interpolated at real frame numbers
        ``positions [b, f]``: ``[b, f, ...]``; beyond a clip's ends the end's."""
        sequence, last = getattr(self, field), self.length[clips, None] - 1
        positions = positions.clamp_min(0).minimum(last)
        low = positions.floor().long()
        weight = (positions - low).to(sequence.dtype).view(*low.shape, *[1] * (sequence.dim() - 1))
        rows = self.first[clips, None]
        return torch.lerp(sequence[rows + low], sequence[rows + (low + 1).minimum(last)], weight)

    def utterances(self, clips: Tensor, longest: int) -> Tensor:
        """Mels ``[b, m, longest]`` of clips; shorter ones are repeated. That leaves their loud level as it is, which
        must be the whole utterance's, as at inference."""
        column = torch.arange(longest, device=self.device) % self.mel_length[clips, None]
        return self.mels[:, self.mel_first[clips, None] + column].transpose(0, 1)


@dataclass
class SegmentBatch:
    """A batch. ``mels [b, m, hop (f - 1) + w]`` normalised (``ContextAudioEncoder.encode_segment``), of the frames at
    ``positions [b, f]`` (real frame numbers of ``clips [b]`` of the bank), which may lie before a clip or after it."""

    bank: ClipBank
    clips: Tensor
    positions: Tensor
    mels: Tensor

    def of(self, field: str, number: int | None = None) -> Tensor:
        """``tokens``, ``opened`` or ``values`` at the positions, ``[b, f, ...]``, of the first ``number`` or all."""
        return self.bank.resample(field, self.clips[:number], self.positions[:number])

    @property
    def inside(self) -> Tensor:
        """Boolean ``[b, f]``: True where the clip has a frame."""
        return (self.positions >= 0) & (self.positions <= self.bank.length[self.clips, None] - 1)


class ClipSampler:
    """Draws segments of ``before`` frames and ``frames`` more at the configuration's frame rate.

    Which clip, where and how fast is drawn on the CPU; what costs time is on the bank's device, never waited for.

    Args:
        groups: lists of clips (synthetic, real, ...), drawn alike, or a bank of them.
        frames, before: how many; by default the prior's clip and context.
        device: of the bank that is made of lists.
    """

    def __init__(
        self,
        config: MCDMConfig,
        groups: Sequence[Sequence[MotionClip]] | ClipBank,
        seed: int = 0,
        frames: int | None = None,
        before: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.bank = groups if isinstance(groups, ClipBank) else ClipBank(groups, device)
        self.frames = config.clip_frames if frames is None else frames
        self.before = config.present_clip_prior.context_frames if before is None else before
        audio = config.audio_encoder
        self.mel_rate = audio.sample_rate / audio.hop_length
        self.hop = round(self.mel_rate / config.fps)
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator(self.bank.device).manual_seed(seed)

    @property
    def draws(self) -> Draws:
        """What a resumed training goes on drawing from."""
        return self.random, self.generator

    def sample(self, number: int) -> SegmentBatch:
        """A batch of augmented segments, a part of them slower or faster than they were spoken."""
        bank = self.bank
        group = np.arange(number) % len(bank.group_size)
        clips = bank.group_first[group] + self.random.integers(bank.group_size[group])
        speed = np.exp(self.random.uniform(-0.15, 0.15, number) * (self.random.random(number) < 0.6))
        step = speed * bank.fps[clips] / self.config.fps
        room = np.maximum(0.0, bank.frames[clips] - 1 - (self.frames - 1) * step)
        start = self.random.uniform(0, room)
        positions = start[:, None] + np.arange(-self.before, self.frames) * step[:, None]
        return self.segments(clips, positions, speed)

    def segments(self, clips: np.ndarray, positions: np.ndarray, speed: np.ndarray) -> SegmentBatch:
        """The batch of ``clips [b]`` at consecutive ``positions [b, f]``, spoken ``speed [b]`` times as fast; the sound
        is augmented, and beyond a clip silent."""
        audio, bank, device = self.config.audio_encoder, self.bank, self.bank.device
        chosen = bank.send(clips)
        whole = bank.utterances(chosen, int(bank.columns[clips].max()))
        whole = normalize_level(augment_mels(whole, self.generator), audio.spectral_balance)
        columns = torch.arange(self.hop * (positions.shape[1] - 1) + audio.window_frames, device=device)
        start = bank.send(((positions[:, 0] + 0.5) * self.mel_rate / bank.fps[clips]).astype(np.float32))
        pace = bank.send(speed.astype(np.float32))
        at = start[:, None] + (columns - audio.window_frames / 2) * pace[:, None]
        outside = (at < 0) | (at > bank.mel_length[chosen, None] - 1)
        mels = interpolate(whole, at, -1).masked_fill(outside[:, None], -1.0)
        return SegmentBatch(bank, chosen, bank.send(positions.astype(np.float32)), mels)

    def earlier_tokens(self, segments: SegmentBatch, number: int | None = None) -> Tensor:
        """Tokens ``[b, nq, dm]`` of a reference: a frame of each clip no later than the segment's first after the
        frames before it. So it tells nothing of what is to be predicted, as a portrait in use does not."""
        first = segments.positions[:number, self.before].clamp_min(0)
        drawn = first * torch.rand(first.shape, generator=self.generator, device=first.device)
        return self.bank.resample("tokens", segments.clips[:number], drawn.round()[:, None])[:, 0]

    def references(self, segments: SegmentBatch, number: int | None = None) -> Tensor:
        """A random reference picture of the clip of each of the first ``number`` segments, ``[b, 3, 128, 128]`` in
        [-1, 1]."""
        chosen = segments.clips[:number]
        picture = self.random.integers(self.bank.references.shape[1], size=len(chosen))
        return to_unit(self.bank.references[chosen, self.bank.send(picture)])
