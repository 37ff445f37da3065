"""Gates of motion: what the codec's tokens say of strangers, what the prior makes of their sound, how much it lives.

Three questions, each with its baseline. Do a clip's own tokens give its lips and lids back (the portrait held still:
slope 0)? Are predicted tokens nearer to the true ones than the last true frame held still? And do head, lids and lips
of a whole prediction move as much as people's?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...correlation import correlation, mean_correlation
from ...errors import MCDMError
from ...face.crops import CropTransform
from ...face.landmarks import LIPS, lid_opening, lip_opening
from ...media.pixels import to_unit
from ...models.audio_encoder import with_value_head
from ...models.motion_codec import MotionCodec
from ...models.motion_tokens import STREAMS, MotionTokens
from ...pipeline import MCDMPipeline
from ...pipeline.audio import AudioEmbedding
from ...pipeline.defaults import sampling_defaults
from ...pipeline.reference import Reference
from ...training.audio.train import encode_sound
from ...training.clip_sampler import MotionClip
from ...training.prior.train import load_motion_clips
from ...training.prior.validation import after_true_past, stream_cosines, validate_prior
from ..liveliness import CROP, blinks_a_minute, head_speed, spread_of_seeds
from .rule import Rule, Scores

_NOSE = 46
"""A landmark that only the head moves."""
_SEEDS = (0, 1)
_LEAST_MOVEMENT = 0.004
"""Deviation of the lip opening below which a clip says nothing of its slope."""


def _above(stream: str) -> Rule:
    return Rule(
        f"prior: {stream} tokens' cosine above the last frame held still",
        lambda s: s[f"{stream}_clip"] - s[f"{stream}_held"],
        1e-4,
        99,
        lambda s: f"held still {s[f'{stream}_held']:.3f}",
        "clip_cosine",
    )


MOTION_RULES = (
    Rule(
        "codec: lips given back, slope",
        lambda s: s["codec_lip_slope"],
        0.9,
        1.1,
        lambda s: "held still 0",
        "codec_lip_slope",
    ),
    Rule("codec: lips given back, r", lambda s: s["codec_lip_r"], 0.95, 1, lambda s: "held still 0", "codec_lip_slope"),
    Rule(
        "codec: lids given back, slope",
        lambda s: s["codec_lid_slope"],
        0.8,
        1.2,
        lambda s: "held still 0",
        "codec_lip_slope",
    ),
    Rule(
        "codec: lips' points off, px of 128",
        lambda s: s["codec_lip_error"],
        0,
        1,
        lambda s: f"held still {s['codec_lip_error_still']:.2f}",
        "codec_lip_slope",
    ),
    *(_above(stream) for stream in STREAMS),
    Rule(
        "prior: cosine lost without the portrait's tokens",
        lambda s: s["clip_cosine"] - s["clip_without_image"],
        1e-4,
        99,
        lambda s: f"{s['clip_without_image']:.3f}",
        "clip_cosine",
    ),
    Rule(
        "lips with the sound, r",
        lambda s: s["lip_r"],
        0.75,
        1,
        lambda s: f"wrong voice {s['lip_r_wrong']:.2f}",
        "lip_r",
    ),
    Rule(
        "lips with a wrong voice, r", lambda s: s["lip_r_wrong"], -1, 0.3, lambda s: f"right {s['lip_r']:.2f}", "lip_r"
    ),
    Rule("lips: range over the true one", lambda s: s["lip_range"], 0.9, 1.1, lambda s: "held still 0", "lip_range"),
    Rule("lips: speed over the true one", lambda s: s["lip_speed"], 0.9, 1.1, lambda s: "held still 0", "lip_range"),
    Rule("head: speed over the true one", lambda s: s["head_speed"], 0.7, 1.3, lambda s: "held still 0", "lip_range"),
    Rule("blinks a minute", lambda s: s["blinks_a_minute"], 12, 25, lambda s: "held still 0", "lip_range"),
    Rule("two seeds: heads apart, px of 128", lambda s: s["seeds_apart"], 1, 99, lambda s: "one seed 0", "lip_range"),
)


def motion_scores(pipe: MCDMPipeline, folder: Path, *, limit: int = 6) -> Scores:
    """Mean scores over the first ``limit`` clips of a folder of shards with sound.

    Raises:
        MCDMError: if it has fewer than two: a wrong voice is another clip's.
    """
    clips = load_motion_clips(folder, pipe.model.motion_codec, pipe.config, limit)
    if len(clips) < 2:
        raise MCDMError(f"{folder} has {len(clips)} clips with sound; at least two are needed, a wrong voice is one.")
    return {**_codec_scores(pipe.model.motion_codec, clips), **_prior_scores(pipe, clips), **_life(pipe, clips)}


@torch.no_grad()
def _codec_scores(codec: MotionCodec, clips: Sequence[MotionClip]) -> Scores:
    """A clip's tokens decoded for its most portrait-like frame: closed lips, open lids."""
    found: dict[str, list[float]] = {name: [] for name in ("lip_r", "lip_slope", "lid_slope", "lip_error", "still")}
    for clip in clips:
        points = clip.landmarks
        lips, lids = lip_opening(points), lid_opening(points)
        still = int((lips - 2 * lids).argmin())
        tokens = MotionTokens.split(clip.tokens[None].to(codec.token_mean), codec.config)
        reference = tokens.map(lambda stream, at=still: stream[:, at])
        decoded = codec.decode(tokens, reference, points[still][None].to(codec.token_mean)).landmarks[0].cpu()
        found["lip_error"].append(float((decoded - points)[:, LIPS].norm(dim=-1).mean()) * CROP)
        found["still"].append(float((points[still] - points)[:, LIPS].norm(dim=-1).mean()) * CROP)
        if float(lips.std()) > _LEAST_MOVEMENT:
            found["lip_r"].append(correlation(lip_opening(decoded), lips))
            found["lip_slope"].append(_slope(lip_opening(decoded), lips))
        found["lid_slope"].append(_slope(lid_opening(decoded), lids))
    mean = {name: sum(values) / max(1, len(values)) for name, values in found.items()}
    return {f"codec_{name}": value for name, value in mean.items() if name != "still"} | {
        "codec_lip_error_still": mean["still"]
    }


def _slope(made: Tensor, true: Tensor) -> float:
    """Least-squares slope of a made series over the true one."""
    made, true = made - made.mean(), true - true.mean()
    return float((made * true).sum() / true.square().sum().clamp_min(1e-9))


@torch.no_grad()
def _prior_scores(pipe: MCDMPipeline, clips: Sequence[MotionClip]) -> Scores:
    model, config = pipe.model, pipe.config
    scores = validate_prior(model, model.motion_codec, clips)
    length = min(len(clip.tokens) for clip in clips)
    truth = torch.stack([clip.tokens[:length] for clip in clips]).to(model.device)
    sound = torch.stack([encode_sound(with_value_head(model.audio_encoder), clip, length) for clip in clips])
    images = torch.cat([_image_tokens(pipe, clip) for clip in clips])
    usual = sampling_defaults(config.preset)
    blind = after_true_past(
        model.present_clip_prior,
        sound,
        torch.zeros_like(images),
        truth,
        steps=usual.motion_steps,
        guidance=usual.motion_guidance,
        temperature=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    return {**scores, "clip_without_image": stream_cosines(blind, truth, config)["all"]}


def _image_tokens(pipe: MCDMPipeline, clip: MotionClip) -> Tensor:
    encoder, device = pipe.model.image_encoder, pipe.model.device
    if pipe.config.image_encoder.kind == "codec":
        return encoder(clip.tokens[:1].to(device))
    return encoder(to_unit(clip.references[:1].to(device)))


def _first_frame(pipe: MCDMPipeline, clip: MotionClip) -> Reference:
    """A clip's first frame as portrait; motion needs its landmarks and tokens, not its picture."""
    side, archive = pipe.config.image_size, pipe.model.archived_clip_prior
    latents = torch.zeros(1, archive.channels, archive.latent_size, archive.latent_size, device=pipe.model.device)
    return Reference(
        image=torch.zeros(3, side, side),
        crop=torch.zeros(3, side, side),
        transform=CropTransform(0, 0, side, side, side),
        latents=latents,
        landmarks=clip.landmarks[0].to(pipe.model.device),
        pose=torch.zeros(6),
        values=clip.values[0],
        image_tokens=_image_tokens(pipe, clip),
        motion_tokens=MotionTokens.split(clip.tokens[:1].to(pipe.model.device), pipe.config),
    )


@torch.no_grad()
def _life(pipe: MCDMPipeline, clips: Sequence[MotionClip]) -> Scores:
    """Whole predictions as users get them, against the clips' own movement."""
    length = min(len(clip.tokens) for clip in clips)
    found: dict[str, list[float]] = {name: [] for name in ("made", "true", "blinks", "seeds")}
    made_lips, true_lips = [], []
    for clip in clips:
        sound = encode_sound(with_value_head(pipe.model.audio_encoder), clip, length)
        audio = AudioEmbedding(sound, length, clip.fps, torch.zeros(0), pipe.config.audio_encoder.sample_rate)
        reference = _first_frame(pipe, clip)
        motions = [pipe.predict_motion(reference, audio, seed=seed) for seed in _SEEDS]
        points = torch.stack([pipe.motion.landmarks(reference, motion).cpu() for motion in motions])
        found["made"].append(float(head_speed(points).mean()))
        found["true"].append(float(head_speed(clip.landmarks[:length])))
        found["seeds"].append(float(spread_of_seeds(points)[_NOSE]))
        for motion, values in ((m, m.values) for m in motions):
            assert values is not None
            found["blinks"].append(blinks_a_minute(values.cpu(), motion.fps))
        made_lips.append(lip_opening(points[0]))
        true_lips.append(lip_opening(clip.landmarks[:length]))
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    return {
        "head_speed": mean["made"] / max(mean["true"], 1e-6),
        "blinks_a_minute": mean["blinks"],
        "seeds_apart": mean["seeds"],
        "lip_range": _over(made_lips, true_lips, lambda x: x.quantile(0.95) - x.quantile(0.05)),
        "lip_speed": _over(made_lips, true_lips, lambda x: x.diff().abs().mean()),
        "lip_points_r": mean_correlation(made_lips, true_lips),
    }


def _over(made: Sequence[Tensor], true: Sequence[Tensor], measure: Callable[[Tensor], Tensor]) -> float:
    """A measure summed over made series, over that of the true ones."""
    return sum(float(measure(x)) for x in made) / max(sum(float(measure(x)) for x in true), 1e-6)
