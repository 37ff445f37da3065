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
from ...models.inputs.motion_noise import by_stream, motion_noise
from ..codec.data import augment
from ..prior.augmentation import placed_elsewhere

MARGIN = 1.0
"""Seconds of sound to either side of a sample: the frozen encoder hears words, not their pieces."""
BEGIN_SHARE, HEAD_SHARE, SOUND_DROPOUT = 0.3, 0.3, 0.1
"""Samples at a video's start, with a driver's head, and without sound, for guidance."""
_TRUSTED, _SHAKEN = 0.02, 0.1
"""Noise on the known frames. In use they come from the model itself, and small errors are not to grow."""
_ELSEWHERE_SHARE = 0.5
"""Samples whose head is at another place and moves more or less, as in half of tiny's clips."""


class MotionSamples(Dataset):
    """Sample ``n`` of stage 2.

    Args:
        clips: of ``context_frames + clip_frames`` at least; augmented: with heads elsewhere and other people's rest
            (``prior/augmentation.py``), and the reference in other colours, shifted and blurred.
    """

    def __init__(self, clips: TarClips, config: MCDMConfig, seed: int = 0, augmented: bool = True) -> None:
        self.clips, self.config, self.seed, self.augmented = clips, config, seed, augmented
        self.chance = clips.frames / clips.frames.sum()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """``faces`` ``[c + f, 3, k, k]`` and ``reference`` ``[3, h, w]`` in [-1, 1], ``landmarks`` ``[c + f, 68, 2]``,
        those of the head ``placed`` elsewhere, ``values`` ``[c + f, 16]``, ``sound`` ``[s]`` (:data:`MARGIN` longer on
        either side), ``noise`` ``[f, nq, dm]`` and ``timestep``, ``shake`` ``[c, nq, dm]`` for the known frames,
        ``begins``, ``given`` (a driver's head), ``dropped`` (no sound), and ``people``: a seed of the other face, -1
        for none."""
        config, random = self.config, np.random.default_rng([self.seed, number])
        codec, side = config.motion_codec, config.image_encoder.image_size
        known, frames = config.present_clip_prior.context_frames, config.clip_frames
        index = int(random.choice(len(self.chance), p=self.chance))
        first = int(random.integers(0, self.clips.frames[index] - known - frames + 1))
        # A portrait knows nothing of what is to come.
        other = int(random.integers(0, first + known))
        pictures = frames_to_unit(self.clips.pictures(index, [*range(first, first + known + frames), other], side))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        tokens = (codec.head_tokens + codec.lip_tokens + codec.expression_tokens, codec.motion_dim)
        shake = torch.randn(known, *tokens, generator=generator)
        correlation = by_stream(config.present_clip_prior.noise_correlation, codec)
        labels, span = self.clips.labels(index), slice(first, first + known + frames)
        landmarks = placed = torch.from_numpy(labels["landmarks"][span])
        reference = pictures[-1]
        if self.augmented:
            reference = augment(reference[None], generator)[0]
            if random.random() < _ELSEWHERE_SHARE:
                placed = placed_elsewhere(landmarks, random)
        return {
            "faces": torch.nn.functional.interpolate(pictures[:-1], size=(codec.image_size,) * 2, mode="area"),
            "reference": reference,
            "landmarks": landmarks,
            "placed": placed,
            "values": torch.from_numpy(labels["values"][span]),
            "sound": _sound_around(self.clips.sound(index), first, known + frames, config),
            "noise": motion_noise((1, frames, *tokens), correlation, generator)[0],
            "timestep": torch.tensor(int(random.integers(config.present_clip_prior.num_train_timesteps))),
            "shake": shake * (_TRUSTED if random.random() < 0.5 else _SHAKEN),
            "begins": torch.tensor(random.random() < BEGIN_SHARE),
            "given": torch.tensor(random.random() < HEAD_SHARE),
            "dropped": torch.tensor(random.random() < SOUND_DROPOUT),
            "people": torch.tensor(int(random.integers(2**62)) if self.augmented else -1),
        }


def _sound_around(sound: np.ndarray, first: int, frames: int, config: MCDMConfig) -> Tensor:
    """Float samples from :data:`MARGIN` before frame ``first`` to as long after the last; silence beyond the ends."""
    rate = config.audio_encoder.sample_rate
    begin = round((first / config.fps - MARGIN) * rate)
    end = begin + round((frames / config.fps + 2 * MARGIN) * rate)
    inside = torch.from_numpy(sound[max(0, begin) : max(0, end)].astype(np.float32) / 32768)
    before = max(0, -begin)
    return torch.nn.functional.pad(inside, (before, end - begin - before - len(inside)))
