"""Pretraining of the small audio encoder: speech to the lips' values, from motion that was never rendered.

Synthetic speech with its mouth movements costs a tenth of a second a clip when no pictures are drawn. So the encoder is
given hundreds of voices and sentences before the prior's training begins.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import component_state
from ...config import TINY, MCDMConfig
from ...correlation import mean_correlation
from ...data.shards import ClipDataset
from ...errors import MCDMError
from ...face.landmarks import BLINK_VALUES
from ...models.audio_encoder import (
    WINDOW_SAMPLES,
    ContextAudioEncoder,
    build_audio_encoder,
    frame_centres,
    gather_windows,
    log_mel,
    mel_filters,
    with_value_head,
)
from ..clip_sampler import ClipSampler, MotionClip
from ..loop import LoopSettings, train
from ..prior.losses import auxiliary_value_loss, correlation_loss

logger = logging.getLogger(__name__)

REFINED_RATE = 5e-4
"""Learning rate of an encoder that goes on from a model's."""


def speech_clip(audio: Tensor, values: Tensor, config: MCDMConfig, fps: float = 25.0) -> MotionClip:
    """A clip without pictures: ``audio [s]`` int16 at 16 kHz and ``values [t, 16]``; its tokens are empty."""
    settings = config.audio_encoder
    mels = log_mel(audio.float() / 32768, settings.sample_rate, settings.num_mels, settings.hop_length)
    none = torch.zeros(len(values), 0)
    return MotionClip(none, values.float(), mels, none, none, {}, fps)


def check_features(sample_rate: int, num_mels: int) -> None:
    """Refuse to train on features that are not librosa's, by which a weight file's are defined.

    Raises:
        MCDMError: if this project's filter bank, which spares a start librosa's import, is another.
    """
    import librosa  # as long to import as torch: whoever only measures need not wait for it

    wanted = torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=WINDOW_SAMPLES, n_mels=num_mels))
    apart = float((mel_filters(sample_rate, num_mels) - wanted).abs().max() / wanted.max())
    if apart > 1e-5:
        raise MCDMError(
            f"The mel filters differ from those of librosa {version('librosa')} by {apart:.1e} of their height: "
            "weights trained on them would fit no other features. Install the librosa of docs/dependencies.md."
        )


def spoken_clips(folder: Path, config: MCDMConfig) -> list[MotionClip]:
    """The clips of a folder's shards, with or without pictures, as sound and values alone."""
    return [
        speech_clip(clip["audio"], clip["values"], config, info["fps"])
        for info, clip in ClipDataset(folder, required=False).clips(("audio", "values"))
    ]


class AudioObjective:
    """Loss of the value head on a batch of augmented segments; called by the training loop.

    Args:
        frames: length of a segment; batch: segments a step; following: weight of the correlation beside the error.
        earlier: the encoder whose tokens a prior knows; ``keeping`` is the weight of what they change by.
    """

    def __init__(
        self,
        encoder: ContextAudioEncoder,
        config: MCDMConfig,
        groups: Sequence[list[MotionClip]],
        batch: int = 24,
        frames: int = 60,
        following: float = 0.4,
        seed: int = 0,
        device: torch.device | str = "cpu",
        earlier: ContextAudioEncoder | None = None,
        keeping: float = 0.02,
    ) -> None:
        self.encoder, self.batch, self.following = encoder, batch, following
        self.earlier, self.keeping = earlier, keeping
        self.sampler = ClipSampler(config, groups, seed, frames=frames, before=0, device=device)

    def __call__(self, step: int) -> dict[str, Tensor]:
        segments = self.sampler.sample(self.batch)
        tokens = self.encoder.encode_segment(segments.mels, self.sampler.hop)
        predicted = self.encoder.predict_values(tokens)
        values, inside = segments.of("values"), segments.inside
        error = auxiliary_value_loss(predicted, values, inside)
        apart = correlation_loss(predicted, values, inside)
        losses = {"loss": error + self.following * apart, "error": error, "apart": apart}
        if self.earlier is not None:
            with torch.no_grad():
                known = self.earlier.encode_segment(segments.mels, self.sampler.hop)
            moved = (tokens - known).square().mean() / known.var().clamp_min(1e-6)
            losses |= {"loss": losses["loss"] + self.keeping * moved, "moved": moved}
        return losses


@torch.no_grad()
def encode_sound(encoder: ContextAudioEncoder, clip: MotionClip, length: int) -> Tensor:
    """Audio tokens ``[length, k, d]`` of a loaded clip, as at inference."""
    audio = encoder.config
    centres = frame_centres(length, clip.fps, audio.sample_rate, audio.hop_length)
    mels = clip.mels.to(encoder.value_head.weight.device)
    return encoder(gather_windows(encoder.normalize(mels), centres, audio.window_frames))


@torch.no_grad()
def validate_audio(encoder: ContextAudioEncoder, clips: Sequence[MotionClip]) -> dict[str, float]:
    """How well facial values follow from the sound.

    Returns:
        ``r``: mean correlation within a clip of predicted and true lip opening; ``width_r``: of lip width;
        ``wrong_r``: of the opening with another clip's sound; ``range``: predicted over true deviation of the opening;
        ``blink_r``: correlation of how far the lids are shut, over all clips as one, since not everybody blinks.
    """
    read = [encoder.predict_values(encode_sound(encoder, c, len(c.values))).cpu() for c in clips]
    shifted = read[1:] + read[:1]

    def mean(series: Sequence[Tensor], value: int) -> float:
        return mean_correlation([h[:, value] for h in series], [c.values[:, value] for c in clips])

    lids = [torch.cat([x[:, BLINK_VALUES].mean(1) for x in series]) for series in (read, [c.values for c in clips])]
    spread = [float(h[:, 0].std() / c.values[:, 0].std().clamp_min(1e-3)) for h, c in zip(read, clips, strict=True)]
    return {
        "r": mean(read, 0),
        "width_r": mean(read, 1),
        "wrong_r": mean(shifted, 0),
        "range": float(np.mean(spread)),
        "blink_r": mean_correlation([lids[0]], [lids[1]]),
    }


def pretrain_audio(
    groups: Sequence[list[MotionClip]],
    output: Path,
    minutes: float,
    held: dict[str, list[MotionClip]],
    config: MCDMConfig = TINY,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 24,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-2,
    validate_every: int = 500,
    resume: bool = True,
    start_from: Path | None = None,
    refine: Path | None = None,
) -> dict[str, float]:
    """Train an encoder on ``device`` and write its plain state to ``output``.

    ``start_from`` is such a file of an earlier run, to go on from with other data. ``refine`` is a file of an encoder
    that a prior knows (a model's). Training begins with it, slower, and its tokens stay near what they were.

    Returns the last validation, keys ``<name>_r`` etc.
    """
    torch.manual_seed(seed)
    check_features(config.audio_encoder.sample_rate, config.audio_encoder.num_mels)
    encoder = with_value_head(build_audio_encoder(config))
    if start_from is not None:
        encoder.load_state_dict(load_file(str(start_from)))
    if refine is not None:
        encoder.load_state_dict(component_state(refine, "audio_encoder"))
        learning_rate = min(learning_rate, REFINED_RATE)
    encoder.to(device)
    earlier = None if refine is None else copy.deepcopy(encoder).eval().requires_grad_(False)
    objective = AudioObjective(encoder, config, groups, batch=batch, seed=seed, device=device, earlier=earlier)
    settings = LoopSettings(
        output,
        minutes=minutes,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        validate_every=validate_every,
        save_every=validate_every,
        resume=resume,
        draws=objective.sampler.draws,
    )

    def validate(module: ContextAudioEncoder, step: int) -> dict[str, float]:
        return {f"{n}_{k}": v for n, clips in held.items() for k, v in validate_audio(module, clips).items()}

    return train(encoder, objective, settings, validate).validation
