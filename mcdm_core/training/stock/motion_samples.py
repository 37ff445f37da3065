"""Samples of stage 2: a clip with the frames before it, the sound around both, and another frame of the person.

As in ``samples.py``, a sample is a function of the seed and its number alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...config import MCDMConfig
from ...data.tar_clips import TarClips
from ...media.pixels import frames_to_unit

MARGIN = 1.0
"""Seconds of sound to either side of a sample: the frozen encoder hears words, not their pieces."""
BEGIN_SHARE, HEAD_SHARE, SOUND_DROPOUT = 0.3, 0.3, 0.1
"""Samples at a video's start, with a driver's head, and without sound, for guidance."""
_TRUSTED, _SHAKEN = 0.02, 0.1
"""Noise on the known frames. In use they come from the model itself, and small errors are not to grow."""


class MotionSamples(Dataset):
    """Sample ``n`` of stage 2.

    Args:
        clips: of ``context_frames + clip_frames`` at least.
    """

    def __init__(self, clips: TarClips, config: MCDMConfig, seed: int = 0) -> None:
        self.clips, self.config, self.seed = clips, config, seed
        self.chance = clips.frames / clips.frames.sum()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """``faces`` ``[c + f, 3, k, k]`` and ``reference`` ``[3, h, w]`` in [-1, 1], ``landmarks`` ``[c + f, 68, 2]``,
        ``sound`` ``[s]`` (:data:`MARGIN` longer on either side), ``noise`` ``[f, nq, dm]`` and ``timestep``, ``shake``
        ``[c, nq, dm]`` for the known frames, ``begins``, ``given`` (a driver's head) and ``dropped`` (no sound)."""
        config, random = self.config, np.random.default_rng([self.seed, number])
        codec, side = config.motion_codec, config.image_encoder.image_size
        known, frames = config.present_clip_prior.context_frames, config.clip_frames
        index = int(random.choice(len(self.chance), p=self.chance))
        first = int(random.integers(0, self.clips.frames[index] - known - frames + 1))
        other = int(random.integers(0, self.clips.frames[index]))
        pictures = frames_to_unit(self.clips.pictures(index, [*range(first, first + known + frames), other], side))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        tokens = (codec.head_tokens + codec.lip_tokens + codec.expression_tokens, codec.motion_dim)
        shake = torch.randn(known, *tokens, generator=generator)
        return {
            "faces": torch.nn.functional.interpolate(pictures[:-1], size=(codec.image_size,) * 2, mode="area"),
            "reference": pictures[-1],
            "landmarks": torch.from_numpy(self.clips.labels(index)["landmarks"][first : first + known + frames]),
            "sound": _sound_around(self.clips.sound(index), first, known + frames, config),
            "noise": torch.randn(frames, *tokens, generator=generator),
            "timestep": torch.tensor(int(random.integers(config.present_clip_prior.num_train_timesteps))),
            "shake": shake * (_TRUSTED if random.random() < 0.5 else _SHAKEN),
            "begins": torch.tensor(random.random() < BEGIN_SHARE),
            "given": torch.tensor(random.random() < HEAD_SHARE),
            "dropped": torch.tensor(random.random() < SOUND_DROPOUT),
        }


def _sound_around(sound: np.ndarray, first: int, frames: int, config: MCDMConfig) -> Tensor:
    """Float samples from :data:`MARGIN` before frame ``first`` to as long after the last; silence beyond the ends."""
    rate = config.audio_encoder.sample_rate
    begin = round((first / config.fps - MARGIN) * rate)
    end = begin + round((frames / config.fps + 2 * MARGIN) * rate)
    inside = torch.from_numpy(sound[max(0, begin) : max(0, end)].astype(np.float32) / 32768)
    before = max(0, -begin)
    return torch.nn.functional.pad(inside, (before, end - begin - before - len(inside)))
