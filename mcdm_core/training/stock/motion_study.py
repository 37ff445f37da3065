"""What stage 2 learns of its data before it trains: closed lids, people's rest, the lips' values, the sound's path.

The ideas are those of ``tiny``'s prior (:mod:`..prior.augmentation`, :mod:`..prior.linear_paths`,
:mod:`..prior.losses`), fitted on some samples. Every process fits them on the same ones, so all begin alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ...config import MCDMConfig
from ...face.landmarks import LIP_VALUES
from ...models.audio_encoder import Wav2Vec2AudioEncoder
from ...models.inputs.known_past import past_and_trend
from ...models.motion_codec import MotionCodec
from ...models.present_clip_prior import PresentClipPrior
from ...motion.blinks import LidAxis
from ..prior.augmentation import OtherFaces, bridged_blinks
from ..prior.linear_paths import fit_closed_lids, fit_gathered_paths
from ..prior.losses import lip_readout
from .motion_samples import MARGIN, MotionSamples

_AT_ONCE = 4


class Encoders(NamedTuple):
    """What a sample is read with, frozen."""

    codec: MotionCodec
    audio: Wav2Vec2AudioEncoder
    image: nn.Module

    @torch.no_grad()
    def sound_tokens(self, sound: Tensor, frames: int, fps: float) -> Tensor:
        """Tokens ``[b, n, k, d]`` of the frames in the middle of ``sound [b, s]`` (see ``motion_samples.py``)."""
        beside = round(MARGIN * fps)
        rate = self.audio.config.sample_rate
        tokens = [self.audio(self.audio.frame_windows(one, rate, fps, frames + 2 * beside)) for one in sound]
        return torch.stack(tokens)[:, beside : beside + frames]


class MotionAids:
    """What was learnt of the data, for the losses of stage 2.

    Args:
        prior: its ``closed_lids`` is set, and the sound's linear path where it is still zero; samples: as they are.
        count: of samples that are read; device: where the networks are.
    """

    @torch.no_grad()
    def __init__(
        self,
        prior: PresentClipPrior,
        encoders: Encoders,
        samples: MotionSamples,
        config: MCDMConfig,
        count: int,
        device: torch.device,
    ) -> None:
        codec, known = config.motion_codec, config.present_clip_prior.context_frames
        parts: list[tuple[Tensor, ...]] = []
        for first in range(0, count, _AT_ONCE):
            batch = default_collate([samples[number] for number in range(first, min(count, first + _AT_ONCE))])
            batch = {name: value.to(device) for name, value in batch.items()}
            own = encoders.codec.encode(batch["faces"], batch["landmarks"]).cat().float()
            sound = encoders.sound_tokens(batch["sound"], own.shape[1], config.fps)
            parts.append((own, batch["values"], sound, encoders.image(batch["reference"])))
        tokens, values, sound, image = (torch.cat(part) for part in zip(*parts, strict=True))
        self.lips = slice(codec.head_tokens, codec.head_tokens + codec.lip_tokens)
        fit_closed_lids(prior, encoders.codec, tokens)
        self.axis = LidAxis.of(encoders.codec, prior.closed_lids)
        self.faces = OtherFaces(tokens.mean(1), codec.head_tokens, codec.lip_tokens, prior.closed_lids)
        spoken = tokens[:, :, self.lips].flatten(2).flatten(0, 1)
        self.readout = lip_readout(spoken, values[..., list(LIP_VALUES)].flatten(0, 1))
        if not prior.direct.weight.any():
            _fit_paths(prior, tokens[:, :known], self.bridged(tokens)[:, known:], sound, image)

    def bridged(self, tokens: Tensor) -> Tensor:
        """Tokens ``[b, t, nq, dm]`` of faces that do not blink."""
        number = len(self.axis.reading)
        opened = torch.stack([bridged_blinks(own, self.axis) for own in tokens[:, :, -number:]])
        return torch.cat([tokens[:, :, :-number], opened], dim=2)

    def others(self, people: Tensor) -> Tensor:
        """What other people's rest adds ``[b, 1, nq, dm]``, by the samples' seeds ``[b]``; nothing for -1."""
        drawn = [
            self.faces.draw(1, torch.Generator().manual_seed(max(0, seed))) * float(seed >= 0)
            for seed in people.tolist()
        ]
        return torch.cat(drawn)


def _fit_paths(prior: PresentClipPrior, known: Tensor, clean: Tensor, sound: Tensor, image: Tensor) -> None:
    """The prior's linear guesses, from what it says of these samples at full noise."""
    past = known.shape[1]
    time = torch.full((len(clean),), len(prior.alphas_cumprod) - 1, device=clean.device)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(clean)
    said = []
    for rows in torch.arange(len(clean)).split(_AT_ONCE):
        speech = sound[rows]
        out = prior(
            noise[rows], time[rows], speech[:, past:], image[rows], context=known[rows], context_audio=speech[:, :past]
        )
        estimate = prior.denoised(out, noise[rows], time[rows])
        if prior.past is not None:
            estimate = estimate - prior.past(known[rows], known[rows, -1], clean.shape[1])
        said.append(estimate)
    last, trend = past_and_trend(known)
    fit_gathered_paths(prior, last, trend, known[:, -1:], torch.cat(said), sound[:, past:].flatten(2), clean)
