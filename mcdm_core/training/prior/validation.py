"""Validation of the present-clip prior on held-out clips: lips against sound, motion tokens against the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...config import MCDMConfig
from ...correlation import mean_correlation
from ...face.landmarks import BLINK_VALUES
from ...media.pixels import to_unit
from ...models.audio_encoder import AudioEncoder, with_value_head
from ...models.motion_codec import MotionCodec
from ...models.motion_tokens import STREAMS, MotionTokens
from ...models.present_clip_prior import PresentClipPrior
from ...pipeline.defaults import sampling_defaults
from ..audio.train import encode_sound
from ..clip_sampler import MotionClip


class PriorNetworks(Protocol):
    """The prior and its two encoders, in training or in a whole model."""

    present_clip_prior: PresentClipPrior

    @property
    def audio_encoder(self) -> AudioEncoder:
        """One with a head for facial values."""
        ...

    @property
    def image_encoder(self) -> nn.Module:
        """Whichever."""
        ...


def stream_cosines(tokens: Tensor, truth: Tensor, config: MCDMConfig) -> dict[str, float]:
    """Mean cosine similarity of tokens ``[..., nq, dm]``: of ``all``, ``head``, ``lip`` and ``expression`` tokens."""
    codec = config.motion_codec
    cosine = torch.cosine_similarity(tokens, truth, dim=-1)
    parts = cosine.split([codec.head_tokens, codec.lip_tokens, codec.expression_tokens], dim=-1)
    streams = {name: float(part.mean()) for name, part in zip(STREAMS, parts, strict=True)}
    return {"all": float(cosine.mean()), **streams}


def after_true_past(prior: PresentClipPrior, sound: Tensor, image: Tensor, truth: Tensor, **sampling: Any) -> Tensor:
    """Every clip predicted after the true frames before it, as the model is trained: ``[b, N, nq, dm]``.

    The first clip has the first frame, repeated, before it, as at a video's start.

    Args:
        sound: ``[b, N, k, da]``; image: ``[b, ki, di]``; truth: true tokens ``[b, N, nq, dm]``.
        sampling: of ``PresentClipPrior.predict``.
    """
    size, past = prior.config.clip_frames, prior.config.present_clip_prior.context_frames
    parts = []
    for first in range(0, truth.shape[1], size):
        before = slice(max(0, first - past), first) if first else slice(0, 1)
        past_sound = sound[:, before] if first else None
        parts.append(prior.predict(sound[:, first : first + size], image, truth[:, before], past_sound, **sampling))
    return torch.cat(parts, 1)


def last_frame_held(truth: Tensor, clip_frames: int) -> Tensor:
    """What a prior has to beat: in every clip of ``truth [b, N, nq, dm]`` the true frame before it, held still."""
    first = torch.arange(truth.shape[1], device=truth.device) // clip_frames * clip_frames
    return truth[:, (first - 1).clamp_min(0)]


@torch.no_grad()
def validate_prior(
    modules: PriorNetworks,
    codec: MotionCodec,
    clips: Sequence[MotionClip],
    steps: int | None = None,
    temperature: float = 0.0,
    guidance: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Predict held-out clips from their first frame and sound, as long as the shortest of them.

    Steps and guidance are those in use (the preset's defaults) unless given. The temperature is a factor of the
    preset's noise, 0 unless given. A sample of what cannot be known is no nearer to the truth than a face held still.

    Returns:
        ``lip_r``: mean correlation within a clip of decoded and true lip opening. ``lip_r_wrong``: the same with
        another clip's sound. ``audio_r``: of the audio encoder's auxiliary head.
        ``cosine``, and by stream ``head_cosine`` etc.: cosine similarity of predicted and true tokens.
        ``still_cosine``, ``head_still`` etc.: the same of the first frame held still.
        ``clip_cosine``, ``head_clip`` etc.: of clips that are each predicted after their true past
        (:func:`after_true_past`). ``clip_held``, ``head_held`` etc.: of the last true frame before each clip held still
        (:func:`last_frame_held`).
        ``lip_std``: deviation of the opening over the true one. ``blinks``: part of the frames with closed lids.
    """
    length = min(len(c.tokens) for c in clips)
    device, config = codec.token_mean.device, codec.config
    encoder = with_value_head(modules.audio_encoder)
    truth = torch.stack([c.tokens[:length] for c in clips]).to(device)
    sound = torch.stack([encode_sound(encoder, c, length) for c in clips])
    if config.image_encoder.kind == "codec":
        image = modules.image_encoder(truth[:, 0])
    else:
        image = modules.image_encoder(to_unit(torch.stack([c.references[0] for c in clips]).to(device)))
    landmarks = torch.stack([c.landmarks[0] for c in clips]).to(device)
    usual, prior = sampling_defaults(config.preset), modules.present_clip_prior
    sampling: dict[str, Any] = {
        "steps": steps or usual.motion_steps,
        "temperature": temperature,
        "guidance": usual.motion_guidance if guidance is None else guidance,
    }

    def predicted(audio: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        tokens = prior.predict(audio, image, truth[:, :1], generator=generator, **sampling)
        still = MotionTokens.split(truth[:, 0], config)
        return tokens, codec.decode(MotionTokens.split(tokens, config), still, landmarks).values.cpu()

    tokens, values = predicted(sound)
    _, wrong = predicted(sound.roll(1, 0))
    real = torch.stack([c.values[:length, 0] for c in clips])
    read = encoder.predict_values(sound)[..., 0].cpu()
    generator = torch.Generator().manual_seed(seed)
    after = after_true_past(prior, sound, image, truth, generator=generator, **sampling)
    found = stream_cosines(tokens, truth, config)
    held = stream_cosines(truth[:, :1].expand_as(truth), truth, config)
    clip = stream_cosines(after, truth, config)
    last = stream_cosines(last_frame_held(truth, config.clip_frames), truth, config)
    return {
        "lip_r": mean_correlation(list(values[..., 0]), list(real)),
        "lip_r_wrong": mean_correlation(list(wrong[..., 0]), list(real)),
        "audio_r": mean_correlation(list(read), list(real)),
        "cosine": found["all"],
        **{f"{name}_cosine": found[name] for name in STREAMS},
        "still_cosine": held["all"],
        **{f"{name}_still": held[name] for name in STREAMS},
        "clip_cosine": clip["all"],
        **{f"{name}_clip": clip[name] for name in STREAMS},
        "clip_held": last["all"],
        **{f"{name}_held": last[name] for name in STREAMS},
        "lip_std": float((values[..., 0].std(1) / real.std(1).clamp_min(1e-3)).mean()),
        "blinks": float((values[..., BLINK_VALUES].mean(-1) > 0.5).float().mean()),
    }
