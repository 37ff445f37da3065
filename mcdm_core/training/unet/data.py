"""What the frozen models make of the denoiser's training frames: latents, guides and motion tokens.

The autoencoder and the codec are frozen here, so what they say of a frame never changes. It is computed when first
asked for (on a GPU, before the training) and kept in half precision. A guide belongs to a pair (reference, frame). It
is kept where every clip has one reference. Where references are drawn anew it is computed for every batch, which costs
less on a GPU than it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import MCDMConfig
from ...errors import MCDMError
from ...face.reference_warp import warp_guide
from ...models.motion_codec import MotionCodec
from ...models.vae import Autoencoder
from ..clip_frames import ClipFrames

Rows = NDArray[np.int64]


class RowCache:
    """Values of rows, computed once, in half precision on the device.

    Args:
        number: of rows; compute: ``rows [n] -> values [n, ...]``; batch: rows computed at a time.
    """

    def __init__(self, number: int, compute: Callable[[Rows], Tensor], batch: int) -> None:
        self.ready = np.zeros(number, dtype=bool)
        self.compute, self.batch = compute, batch
        self.values: Tensor | None = None

    def fill(self) -> None:
        """Compute all rows now, in batches of one size: for a GPU, which chooses its kernels anew for every size."""
        rows = np.arange(-(-len(self.ready) // self.batch) * self.batch) % len(self.ready)
        for part in rows.reshape(-1, self.batch):
            self._keep(part)

    def _keep(self, rows: Rows) -> None:
        values = self.compute(rows).half()
        if self.values is None:
            self.values = values.new_zeros((len(self.ready), *values.shape[1:]))
        self.values[torch.from_numpy(rows).to(values.device)] = values
        self.ready[rows] = True

    def get(self, rows: Rows) -> Tensor:
        """float32 ``[*rows, ...]``."""
        missing = np.unique(rows[~self.ready[rows]])
        for start in range(0, len(missing), self.batch):
            self._keep(missing[start : start + self.batch])
        assert self.values is not None
        return self.values[torch.from_numpy(rows).to(self.values.device)].float()


class LatentClips:
    """Clips with what the frozen models make of them.

    Per row: latents ``[c, h, w]``, guide ``[g, h, w]`` against a reference, motion ``[m, dm]``. The denoiser's own
    samples of a row, put there by training (:meth:`remember`), serve as archived frames.

    Args:
        frames: the clips; vae, codec: frozen models, which move to the frames' device.
        batch: rows the frozen models see at a time.
        shares: how often clips of each folder are drawn; by default as often as there are clips.
    """

    def __init__(
        self,
        frames: ClipFrames,
        vae: Autoencoder,
        config: MCDMConfig,
        codec: MotionCodec | None = None,
        batch: int = 32,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.frames, self.config, self.device = frames, config, frames.device
        self.vae = vae.eval().requires_grad_(False).to(self.device)
        self.codec = None if codec is None else codec.eval().requires_grad_(False).to(self.device)
        self._latents = RowCache(frames.rows, self._encode, batch)
        self._motion = RowCache(frames.rows, self._tokens, batch)
        self._guides = RowCache(frames.rows, self._own_guide, batch)
        self._one_reference = frames.references.shape[1] == 1
        self._own: Tensor | None = None
        self._made = torch.zeros(frames.rows, dtype=torch.bool, device=self.device)
        self._chance = self._probabilities(shares)
        if self.device.type != "cpu":
            self._latents.fill()
            if codec is not None:
                self._motion.fill()

    def __len__(self) -> int:
        return len(self.frames)

    def _probabilities(self, shares: Sequence[float] | None) -> NDArray[np.float64]:
        """Chance of every clip to be drawn."""
        groups = self.frames.group
        if shares is None:
            return np.full(len(groups), 1 / len(groups))
        counts = np.bincount(groups, minlength=len(shares))
        weights = np.array([share / max(1, count) for share, count in zip(shares, counts, strict=True)])[groups]
        return weights / weights.sum()

    def draw(self, number: int, random: np.random.Generator) -> Rows:
        """Numbers of random clips ``[number]``."""
        return random.choice(len(self), number, p=self._chance)

    def references(self, clips: Rows, random: np.random.Generator) -> Rows:
        """The row of a reference frame of each clip, ``[b]``, drawn from those it has."""
        candidates = self.frames.references
        return candidates[clips, random.integers(candidates.shape[1], size=len(clips))]

    def latents(self, rows: Rows) -> Tensor:
        """float32 ``[*rows, c, h, w]``."""
        return self._latents.get(rows)

    def motion(self, rows: Rows) -> Tensor:
        """Motion tokens, float32 ``[*rows, m, dm]``.

        Raises:
            MCDMError: without a codec.
        """
        return self._motion.get(rows)

    def guide(self, rows: Rows, references: Rows) -> Tensor:
        """Guides ``[b, f, g, h, w]`` of rows ``[b, f]`` against their clips' references ``[b]``."""
        if self._one_reference:
            return self._guides.get(rows)
        return self._guide(rows, references)

    @torch.no_grad()
    def _guide(self, rows: Rows, references: Rows) -> Tensor:
        pictures, still = self.frames.pictures(references), self.frames.points(references)
        return warp_guide(self.vae.encode, pictures, still, self.frames.points(rows))[0].float()

    def _own_guide(self, rows: Rows) -> Tensor:
        clips = np.searchsorted(self.frames.first, rows, side="right") - 1
        return self._guide(rows[:, None], self.frames.references[clips, 0])[:, 0]

    @torch.no_grad()
    def _encode(self, rows: Rows) -> Tensor:
        return self.vae.encode(self.frames.pictures(rows))

    @torch.no_grad()
    def _tokens(self, rows: Rows) -> Tensor:
        if self.codec is None:
            raise MCDMError("Motion tokens are needed (stage 3), but no motion codec was given.")
        with torch.autocast(self.device.type, enabled=False):
            return self.codec.encode(self.frames.pictures(rows)[:, None], self.frames.points(rows)[:, None]).cat()[:, 0]

    def remember(self, rows: Rows, samples: Tensor, wanted: Tensor) -> None:
        """Keep the denoiser's own samples ``[b, f, c, h, w]`` of rows ``[b, f]``, of the clips ``wanted [b]``."""
        if self._own is None:
            self._own = torch.zeros((self.frames.rows, *samples.shape[2:]), dtype=torch.half, device=self.device)
        index = torch.from_numpy(rows).to(self.device)
        self._own[index] = torch.where(wanted[:, None, None, None, None], samples.half(), self._own[index])
        self._made[index] = self._made[index] | wanted[:, None]

    def archived(self, rows: Rows, own: Tensor) -> Tensor:
        """Latents ``[b, f, c, h, w]`` of archived rows ``[b, f]``; of the clips ``own [b]``, the denoiser's samples
        where it has made some."""
        latents = self.latents(rows)
        if self._own is None:
            return latents
        index = torch.from_numpy(rows).to(self.device)
        made = self._made[index] & own[:, None]
        return torch.where(made[..., None, None, None], self._own[index].float(), latents)
