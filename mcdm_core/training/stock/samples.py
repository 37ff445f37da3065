"""Samples of the paper's training: 32 consecutive frames, 16 of archive and 16 of target (method.md, section 4).

A sample is a function of the seed and its number alone. So a stopped training goes on with the next sample, and any
number of processes draws the samples that one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ...config import MCDMConfig
from ...data.tar_clips import TarClips
from ...media.pixels import frames_to_unit
from ..workers import Workers

START_SHARE = 0.1
"""Samples whose archive is the reference repeated, as at a video's start."""
MOTION_DROPOUT = 0.1
"""Samples without motion tokens, for guidance."""


class ClipSamples(Dataset):
    """Sample ``n`` of a training: pictures, labels, noise and timestep.

    Args:
        clips: of ``2 f`` frames at least; motion: with labels and faces for the motion codec (stage 3).
    """

    def __init__(self, clips: TarClips, config: MCDMConfig, seed: int = 0, motion: bool = False) -> None:
        self.clips, self.config, self.seed, self.motion = clips, config, seed, motion
        self.chance = clips.frames / clips.frames.sum()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """``archive`` and ``target`` ``[f, 3, h, w]``, ``reference`` ``[3, h, w]`` in [-1, 1], ``noise``
        ``[f, c, h, w]``, ``timestep``, ``start`` (the archive is to be the reference), ``dropped`` (no motion tokens),
        and ``faces`` and ``landmarks`` of the target for the codec."""
        config, random = self.config, np.random.default_rng([self.seed, number])
        frames, size = config.clip_frames, config.image_size
        index = int(random.choice(len(self.chance), p=self.chance))
        first = int(random.integers(0, self.clips.frames[index] - 2 * frames + 1))
        other = int(random.integers(0, self.clips.frames[index]))
        numbers = [*range(first, first + 2 * frames), other]
        pictures = frames_to_unit(self.clips.pictures(index, numbers, size))
        latent = config.unet.latent_size
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        sample = {
            "archive": pictures[:frames],
            "target": pictures[frames : 2 * frames],
            "reference": pictures[-1],
            "noise": torch.randn(frames, config.unet.latent_channels, latent, latent, generator=generator),
            "timestep": torch.tensor(float(random.integers(config.diffusion.num_train_timesteps))),
            "start": torch.tensor(random.random() < START_SHARE),
            "dropped": torch.tensor(random.random() < MOTION_DROPOUT),
        }
        if self.motion:
            side = (config.motion_codec.image_size,) * 2
            sample["faces"] = torch.nn.functional.interpolate(sample["target"], size=side, mode="area")
            landmarks = self.clips.labels(index)["landmarks"][first + frames : first + 2 * frames]
            sample["landmarks"] = torch.from_numpy(landmarks)
        return sample


class _Numbers(Sampler[int]):
    """This process's sample numbers of batch after batch, for ever."""

    def __init__(self, batch: int, first: int, workers: Workers) -> None:
        self.batch, self.first, self.workers = batch, first, workers

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield from (step * self.batch + place for place in self.workers.share(self.batch))
            step += 1


def batches(
    samples: Dataset, batch: int, first: int, workers: Workers, readers: int = 0
) -> Iterator[dict[str, Tensor]]:
    """This process's shares of batches of ``batch`` samples, from batch ``first`` on; ``readers`` processes decode."""
    more: dict[str, Any] = {"prefetch_factor": 2, "persistent_workers": True} if readers else {}
    loader = DataLoader(
        samples,
        batch_size=len(workers.share(batch)),
        sampler=_Numbers(batch, first, workers),
        num_workers=readers,
        pin_memory=torch.cuda.is_available(),
        **more,
    )
    yield from loader


class BatchStream:
    """This process's share of batch after batch, on its device.

    Args:
        batch: samples of all processes; readers: processes that decode.
    """

    def __init__(self, samples: Dataset, batch: int, workers: Workers, device: torch.device, readers: int = 0) -> None:
        self.samples, self.batch, self.workers, self.device, self.readers = samples, batch, workers, device, readers
        self._stream: Iterator[dict[str, Tensor]] | None = None

    def next(self, number: int) -> dict[str, Tensor]:
        """The next batch. The first time it is called, batch ``number``: a training that is resumed begins there."""
        if self._stream is None:
            self._stream = batches(self.samples, self.batch, number, self.workers, self.readers)
        return {key: value.to(self.device, non_blocking=True) for key, value in next(self._stream).items()}
