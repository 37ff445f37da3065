"""Training of the present-clip prior with its audio and image encoders (paper stage 2).

The codec must be trained first: its tokens are the data. A sample is ``clip_frames`` consecutive frames with the frames
before them as un-noised context. The sound is augmented hard (:mod:`.prior_losses`), and played slower or faster
together with the motion. Two auxiliary losses read the lips' values, from the audio tokens and from the estimated
motion; they only speed up training and leave the model as the paper has it. An audio encoder that was pretrained
(:mod:`.audio_pretraining`) stays frozen, as the paper's does: it has heard many more voices than there are clips here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..config import TINY, MCDMConfig, to_json
from ..evaluation.lip_sync import mean_correlation
from ..media.pixels import frames_to_unit, to_unit
from ..models.audio_encoder import build_audio_encoder, log_mel
from ..models.image_encoder import ConvImageEncoder
from ..models.landmarks import LIP_VALUES, VALUE_NAMES
from ..models.motion_codec import MotionCodec, MotionTokens
from ..models.present_clip_prior import PresentClipPrior
from .audio_pretraining import encode_sound
from .clip_sampler import ClipSampler, MotionClip, Stretches
from .loop import LoopSettings, save_state, train
from .motion_clips import iterate_clips
from .prior_losses import auxiliary_value_loss, diffusion_loss, lip_readout, readout_loss

logger = logging.getLogger(__name__)

REFERENCES = 3
"""Reference pictures kept of each clip."""
AUDIO_DROP = 0.1
"""Part of the samples whose sound is dropped, for classifier-free guidance."""


class PriorModules(nn.Module):
    """The prior and the two encoders trained with it; its keys are the weight file's prefixes."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.present_clip_prior = PresentClipPrior(config)
        self.audio_encoder = build_audio_encoder(config)
        self.image_encoder = ConvImageEncoder(config)


def load_codec(path: Path, config: MCDMConfig) -> MotionCodec:
    """The trained codec from a file with keys prefixed ``motion_codec.``, frozen."""
    codec = MotionCodec(config)
    state = load_file(str(path))
    prefix = "motion_codec."
    codec.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return codec.eval().requires_grad_(False)


@torch.no_grad()
def load_motion_clips(
    folder: Path, codec: MotionCodec, config: MCDMConfig, limit: int | None = None
) -> list[MotionClip]:
    """Encode the clips of a folder's shards with the codec; ``limit`` clips at most."""
    clips = []
    audio = config.audio_encoder
    for clip in iterate_clips(folder, ("frames", "landmarks", "values", "audio")):
        if limit is not None and len(clips) >= limit:
            break
        landmarks = torch.from_numpy(clip["landmarks"]).float()
        frames = frames_to_unit(clip["frames"])
        tokens = codec.encode(frames[None], landmarks[None]).cat()[0]
        sound = torch.from_numpy(clip["audio"].astype(np.float32) / 32768)
        picked = torch.linspace(0, len(frames) - 1, REFERENCES).round().long().numpy()
        clips.append(
            MotionClip(
                tokens, torch.from_numpy(clip["values"]).float(),
                log_mel(sound, audio.sample_rate, audio.num_mels, audio.hop_length),
                torch.from_numpy(clip["frames"][picked]).movedim(-1, 1).contiguous(),
                landmarks, clip["info"], float(clip["info"].get("fps", config.fps)),
            )  # fmt: skip
        )
    return clips


class PriorObjective:
    """Losses of one random batch; called by the training loop.

    Args:
        groups: lists of clips (synthetic, real, ...); each batch draws from every group alike.
        batch: clips a step through the prior; audio_batch: more clips through the audio encoder's value head alone.
    """

    def __init__(
        self, modules: PriorModules, config: MCDMConfig, groups: Sequence[list[MotionClip]], batch: int = 16,
        audio_batch: int = 16, seed: int = 0,
    ) -> None:  # fmt: skip
        self.modules, self.config = modules, config
        self.sampler = ClipSampler(config, groups, seed)
        self.batch, self.audio_batch = batch, audio_batch
        self.random, self.generator = self.sampler.random, self.sampler.generator
        codec = config.motion_codec
        self.lips = slice(codec.head_tokens, codec.head_tokens + codec.lip_tokens)
        tokens = torch.cat([c.tokens[:, self.lips].flatten(1) for g in self.sampler.groups for c in g[:300]])
        values = torch.cat([c.values[:, list(LIP_VALUES)] for g in self.sampler.groups for c in g[:300]])
        self.readout = lip_readout(tokens, values)
        explained = 1 - (values - values.mean(0) - (tokens - tokens.mean(0)) @ self.readout).var(0) / values.var(0)
        logger.info("linear readout of the lip values explains %s", [round(float(e), 3) for e in explained])

    def __call__(self, step: int) -> dict[str, Tensor]:
        modules, context = self.modules, self.config.present_clip_prior.context_frames
        stretches = self.sampler.sample(self.batch + self.audio_batch)
        frozen = not modules.audio_encoder.value_head.weight.requires_grad
        with torch.set_grad_enabled(not frozen):
            sound = modules.audio_encoder.encode_stretch(stretches.mels, self.sampler.hop)
            predicted, values = modules.audio_encoder.predict_values(sound), stretches.of("values")
            auxiliary = auxiliary_value_loss(predicted[:, context:], values[:, context:])
        clean = first_of(stretches, self.batch)
        for row in clean:
            if self.random.random() < 0.3:
                # A video's start: the frame before the clip, repeated, is all that is known.
                row[:context] = row[context - 1]
        sound = sound[: self.batch]
        image = modules.image_encoder(random_references(stretches.clips[: self.batch], self.random))
        known_sound = sound[:, :context]
        if self.random.random() < 0.3:
            known_sound = None
        given = torch.from_numpy(self.random.random(self.batch) < 0.3)
        dropped = torch.from_numpy(self.random.random(self.batch) < AUDIO_DROP)
        # Context in use comes from the model itself: a little noise keeps small errors from growing.
        before = clean[:, :context] + 0.1 * torch.randn(clean[:, :context].shape, generator=self.generator)
        loss, estimate, _ = diffusion_loss(
            modules.present_clip_prior, clean[:, context:], given, self.generator, audio=sound[:, context:],
            image=image, context=before, context_audio=known_sound, drop_audio=dropped,
        )  # fmt: skip
        readout = readout_loss(estimate, clean[:, context:], self.readout, self.lips)
        return {"loss": loss + 2 * auxiliary + 10 * readout, "mse": loss, "audio": auxiliary, "readout": readout}


def first_of(stretches: Stretches, number: int) -> Tensor:
    """Tokens ``[number, f, nq, dm]`` of the first stretches."""
    return Stretches(stretches.clips[:number], stretches.positions[:number], stretches.mels).of("tokens")


def random_references(clips: Sequence[MotionClip], random: np.random.Generator) -> Tensor:
    """One reference picture of each clip, ``[b, 3, 128, 128]`` in [-1, 1]."""
    return to_unit(torch.stack([c.references[int(random.integers(len(c.references)))] for c in clips]))


@torch.no_grad()
def validate_prior(
    modules: PriorModules, codec: MotionCodec, clips: Sequence[MotionClip], steps: int = 6, temperature: float = 0.5,
    guidance: float = 1.0, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Predict held-out clips from their first frame and sound; all clips must have as many frames as the first.

    Returns:
        ``lip_r``: mean correlation within a clip of decoded and true lip opening; ``lip_r_wrong``: the same with
        another clip's sound; ``audio_r``: of the audio encoder's auxiliary head; ``cosine``, and by stream
        ``head_cosine`` etc.: cosine similarity of predicted and true tokens; ``still_cosine``: the same of the first
        frame held still; ``lip_std``: deviation of the opening over the true one; ``blinks``: part of the frames with
        closed lids.
    """
    length = min(len(c.tokens) for c in clips)
    truth = torch.stack([c.tokens[:length] for c in clips])
    sound = torch.stack([encode_sound(modules.audio_encoder, c, length) for c in clips])
    image = modules.image_encoder(to_unit(torch.stack([c.references[0] for c in clips])))
    config = codec.config
    openings = {}
    for name, audio in (("right", sound), ("wrong", sound.roll(1, 0))):
        generator = torch.Generator().manual_seed(seed)
        tokens = modules.present_clip_prior.predict(
            audio, image, truth[:, :1], steps=steps, temperature=temperature, guidance=guidance, generator=generator
        )
        still = MotionTokens.split(truth[:, 0], config)
        motion = codec.decode(MotionTokens.split(tokens, config), still, torch.stack([c.landmarks[0] for c in clips]))
        openings[name] = motion.values[..., 0]
        if name == "right":
            predicted, blinking = tokens, motion.values
    lids = (VALUE_NAMES.index("blink_left"), VALUE_NAMES.index("blink_right"))
    real = torch.stack([c.values[:length, 0] for c in clips])
    heard = modules.audio_encoder.predict_values(sound)[..., 0]
    codec_config = config.motion_codec
    sizes = [codec_config.head_tokens, codec_config.lip_tokens, codec_config.expression_tokens]
    cosine = torch.cosine_similarity(predicted, truth, dim=-1)
    head, lip, expression = (float(c.mean()) for c in cosine.split(sizes, dim=-1))
    held = torch.cosine_similarity(truth[:, :1].expand_as(truth), truth, dim=-1)
    return {
        "lip_r": mean_correlation(list(openings["right"]), list(real)),
        "lip_r_wrong": mean_correlation(list(openings["wrong"]), list(real)),
        "audio_r": mean_correlation(list(heard), list(real)),
        "cosine": float(cosine.mean()),
        "head_cosine": head,
        "lip_cosine": lip,
        "expression_cosine": expression,
        "still_cosine": float(held.mean()),
        "lip_std": float((openings["right"].std(1) / real.std(1).clamp_min(1e-3)).mean()),
        "blinks": float((blinking[..., lids].mean(-1) > 0.5).float().mean()),
    }


@torch.no_grad()
def fit_linear_paths(
    modules: PriorModules, config: MCDMConfig, groups: Sequence[list[MotionClip]], batches: int = 12, batch: int = 32,
    seed: int = 0,
) -> None:
    """Add to the prior's linear paths what its estimate at full noise still misses, by ridge regression.

    The path from the sound to the lips, and where the prior has it the one from the last known frame to every frame
    of the clip, on augmented stretches of all groups. Takes seconds and shortens training by much.
    """
    prior = modules.present_clip_prior
    sampler = ClipSampler(config, groups, seed)
    context = config.present_clip_prior.context_frames
    lips = slice(prior.head_tokens, prior.head_tokens + prior.lip_tokens)
    heard, known, missed = [], [], []
    for _ in range(batches):
        stretches = sampler.sample(batch)
        clean = stretches.of("tokens")
        sound = modules.audio_encoder.encode_stretch(stretches.mels, sampler.hop)
        image = modules.image_encoder(random_references(stretches.clips, sampler.random))
        time = torch.full((batch,), len(prior.signal) - 1)
        noise = torch.randn(clean[:, context:].shape, generator=sampler.generator)
        out = prior(
            noise, time, sound[:, context:], image, context=clean[:, :context], context_audio=sound[:, :context]
        )
        missed.append(clean[:, context:] - prior.estimate(out, noise, time))
        known.append(clean[:, context - 1])
        heard.append(sound[:, context:].flatten(2))
    last, target = torch.cat(known), torch.cat(missed)
    if prior.persistence is not None:
        # One number for each frame of the clip and feature of a token.
        gain = (target * last[:, None]).mean(0) / (last.square().mean(0) + 1e-3)
        rows = min(len(gain), len(prior.persistence))
        prior.persistence[:rows] += gain[:rows]
        target = target - gain * last[:, None]
    features = torch.cat(heard).flatten(0, 1)
    wanted = target[:, :, lips].flatten(2).flatten(0, 1)
    ridge = 0.02 * len(features) * torch.eye(features.shape[1])
    prior.direct.weight += torch.linalg.solve(features.T @ features + ridge, features.T @ wanted).T


def train_prior(
    groups: Sequence[list[MotionClip]], codec: MotionCodec, output: Path, minutes: float,
    held: dict[str, list[MotionClip]], config: MCDMConfig = TINY, batch: int = 12, seed: int = 0,
    start_from: Path | None = None, audio_from: Path | None = None, learning_rate: float = 2e-3, resume: bool = True,
) -> dict[str, float]:  # fmt: skip
    """Train and write ``output`` with the prefixes ``present_clip_prior.``, ``audio_encoder.``, ``image_encoder.``.

    Args:
        held: named lists of clips to validate on; start_from: weights of an earlier run to go on from;
        audio_from: a pretrained audio encoder (:mod:`.audio_pretraining`), which then stays as it is.

    Returns:
        The last validation.
    """
    torch.manual_seed(seed)
    modules = PriorModules(config)
    if start_from is not None:
        modules.load_state_dict(load_file(str(start_from)))
    if audio_from is not None:
        modules.audio_encoder.load_state_dict(load_file(str(audio_from)))
        modules.audio_encoder.requires_grad_(False)
        if start_from is None:
            fit_linear_paths(modules, config, groups)
    objective = PriorObjective(
        modules, config, groups, batch=batch, audio_batch=0 if audio_from is not None else batch, seed=seed
    )

    def validate(module: nn.Module, step: int) -> dict[str, float]:
        numbers = {}
        for name, clips in held.items():
            if clips:
                numbers.update({f"{name}_{k}": v for k, v in validate_prior(module, codec, clips).items()})
        return numbers

    settings = LoopSettings(
        output, minutes=minutes, learning_rate=learning_rate, validate_every=1000, save_every=250, ema_decay=0.997,
        metadata={"mcdm_config": to_json(config)}, resume=resume,
    )  # fmt: skip
    result = train(modules, objective, settings, validate)
    fit_linear_paths(modules, config, groups)
    save_state(output, modules.state_dict(), {"mcdm_config": to_json(config)})
    return result.validation
