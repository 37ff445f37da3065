"""Stages 1 and 3 of the training: the archived-clip prior, the UNet and its memory (section 3.5, 4.1).

Stage 1 trains the archived-clip prior and its reference attention (P); layer 4 is bypassed, F_ac_ref joins the residual
directly. Stage 3 trains only the present-clip reference attention and the temporal attention (P). The ``tiny`` preset
starts from nothing, so its UNet's own weights train in both stages (C), and in stage 3 also the way of the motion
tokens into the time embedding.

Choices of ours (C) where the paper is silent:

* A sample is 32 consecutive frames, 16 of archive and 16 of target. While layer 4 is bypassed the frames of a clip do
  not see each other, so stage 1 takes only some of the 16 pairs (archived frame i, target frame i) of each clip, and
  more clips.
* The first steps are a plain regression: all noise, one timestep, which is all that one-step sampling uses. Later a
  share goes on so; half of the other noise levels lie near the top, the rest covers all levels. A further share
  learns from where sampling comes: the input is the model's own first estimate, not the truth, under little noise.
* The archive is augmented: noise, blur, colour, shift, the model's own estimates, or the reference repeated.
* The error is weighted towards lips and lids, and decoded cuts (mouth, eyes, anywhere) are compared in pixels, and
  late in training by a small critic as well (``adversary.py``).
* Clips shorter than two (stills under known motion) have no archive: theirs is the reference repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..config import TINY, MCDMConfig, to_json
from ..errors import WeightsError
from ..models.archived_clip_prior import ArchivedClipPrior
from ..models.landmarks import EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, LIDS, LIPS
from ..models.unet import DenoisingUNet
from ..models.vae import build_autoencoder
from ..schedule import NoiseSchedule
from .adversary import Adversary
from .loop import LoopSettings, TrainResult, train
from .prior import load_codec
from .unet_data import Clip, LatentClips, read_clips
from .unet_validation import validate_denoiser
from .vae import laplacian_loss

logger = logging.getLogger(__name__)

ARCHIVED_LAYERS = (".archived_attn.", ".archived_norm.")
PRESENT_LAYERS = (".present_attn.", ".present_norm.", ".temporal.")
MOTION_LAYERS = ("unet.motion_tokens.", "unet.motion_embedding.")


class Denoiser(nn.Module):
    """The archived-clip prior and the UNet as one module; its keys carry the weight file's prefixes."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.archived_clip_prior = ArchivedClipPrior(config)
        self.unet = DenoisingUNet(config)


def freeze_for_stage(denoiser: Denoiser, stage: int, train_backbone: bool) -> list[str]:
    """Set ``requires_grad`` for a stage and return the names of the parameters that train.

    Args:
        stage: 1 or 3. Stage 1: archived-clip prior and its reference attention; stage 3: present-clip reference
            attention and temporal attention.
        train_backbone: also the UNet's own weights (``tiny``; in stage 3 the archived-clip prior goes on as well).
    """
    if stage not in (1, 3):
        raise ValueError(f"stage {stage} does not train the denoiser; give 1 or 3 (2 is the present-clip prior)")
    trained = []
    for name, parameter in denoiser.named_parameters():
        present = any(part in name for part in PRESENT_LAYERS) or name.startswith(MOTION_LAYERS)
        archived = name.startswith("archived_clip_prior.") or any(part in name for part in ARCHIVED_LAYERS)
        if stage == 1:
            wanted = archived or (train_backbone and not present)
        else:
            wanted = present or train_backbone
        parameter.requires_grad_(wanted)
        if wanted:
            trained.append(name)
    return trained


@dataclass
class Batch:
    """Clips ready for the denoiser: latents ``[b, f, c, h, w]``, archive of the same shape, reference ``[b, c, h, w]``,
    guide ``[b, f, g, h, w]``, landmarks ``[b, f, 68, 2]``, motion ``[b, f, m, dm]`` or None; the true pictures
    ``[b, p, 3, H, W]`` of the p frames ``shown`` of each clip, or None."""

    latents: Tensor
    archive: Tensor
    reference: Tensor
    guide: Tensor | None
    landmarks: Tensor
    motion: Tensor | None
    pictures: Tensor | None
    shown: list[int]
    sources: list[tuple[Clip, list[int]]]


def sample_batch(
    data: LatentClips,
    clips: int,
    frames: int,
    random: np.random.Generator,
    *,
    motion: bool,
    consecutive: bool,
    pictures: int = 0,
    every: int = 1,
) -> Batch:
    """Draw clips and of each the target frames with the archived frames they pair with.

    Args:
        frames: of each clip, of its 16 targets.
        consecutive: stage 3 needs neighbouring frames, the clip and archive being ``frames`` long; otherwise any
            ``frames`` of the 16.
        pictures: the true pictures of so many frames of every clip come along.
        every: draw only frames (consecutive: first frames) whose number is a multiple of this: fewer to encode.
    """
    length = data.config.clip_frames
    rows: list[tuple[Tensor, ...]] = []
    sources: list[tuple[Clip, list[int]]] = []
    lag = frames if consecutive else length
    for _ in range(clips):
        clip = data.draw(random)
        short = clip.length < 2 * length
        if consecutive:
            starts = np.arange(lag, clip.length - frames + 1)
            start = int(random.choice(starts[starts % every == 0] if (starts % every == 0).any() else starts))
            indices = list(range(start, start + frames))
        else:
            first = 0 if short else lag
            candidates = np.arange(first, clip.length)
            fewer = candidates[candidates % every == 0]
            chosen = random.choice(fewer if len(fewer) >= frames else candidates, frames, replace=False)
            indices = sorted(int(i) for i in chosen)
        reference = data.reference(clip)
        if random.random() < 0.25 or (short and not consecutive):
            archive = reference[None].expand(frames, -1, -1, -1)
        else:
            past = data.archived(clip, [i - lag for i in indices], own=random.random() < 0.4)
            archive = augment_archive(past, random)
        rows.append((data.get("latents", clip, indices), archive, reference, clip.landmarks[torch.tensor(indices)]))
        sources.append((clip, indices))
    latents, archive, reference, landmarks = (torch.stack(parts) for parts in zip(*rows, strict=True))
    guide = None
    if data.config.unet.warped_reference:
        guide = torch.stack([data.get("guide", *source) for source in sources])
    tokens = torch.stack([data.get("motion", *source) for source in sources]) if motion else None
    shown = sorted(int(i) for i in random.choice(frames, min(pictures, frames), replace=False))
    true = None
    if shown:
        true = torch.stack([clip.frames([indices[i] for i in shown]) for clip, indices in sources])
    return Batch(latents, archive, reference, guide, landmarks, tokens, true, shown, sources)


def augment_archive(latents: Tensor, random: np.random.Generator) -> Tensor:
    """Disturb archived latents ``[f, c, h, w]`` as drift does, one draw a clip: noise, blur, colour, shift."""
    channels = latents.shape[1]
    result = latents
    if random.random() < 0.4:
        result = result + float(random.uniform(0, 0.4)) * torch.randn_like(result)
    if random.random() < 0.3:
        blurred = functional.avg_pool2d(functional.pad(result, (1, 1, 1, 1), mode="replicate"), 3, 1)
        result = result + float(random.uniform(0, 1)) * (blurred - result)
    if random.random() < 0.3:
        gain = 1 + 0.1 * torch.randn(1, channels, 1, 1)
        result = result * gain + 0.15 * torch.randn(1, channels, 1, 1)
    if random.random() < 0.2:
        dy, dx = (int(v) for v in random.integers(-1, 2, 2))
        result = result.roll((dy, dx), (2, 3))
    return result


def region_weights(landmarks: Tensor, size: int, lips: float = 3.0, lids: float = 2.0) -> Tensor:
    """Weight of every latent cell, mean 1: ``[b, f, 68, 2]`` to ``[b, f, 1, size, size]``, more at lips and lids."""
    cells = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    weight = torch.ones(*landmarks.shape[:2], size, size)
    for group, extra in ((LIPS, lips), (LIDS, lids)):
        points = landmarks[:, :, group].float()
        across = torch.exp(-((points[..., 0, None] - cells) ** 2) / (2 * 0.045**2))
        down = torch.exp(-((points[..., 1, None] - cells) ** 2) / (2 * 0.045**2))
        weight = weight + extra * (down[..., :, None] * across[..., None, :]).amax(2)
    return (weight / weight.mean((-2, -1), keepdim=True)).unsqueeze(2)


def sample_timesteps(clips: int, regression_share: float, top: int) -> Tensor:
    """``[clips]`` timesteps in [0, top]: ``top`` itself for a share, of the rest half near the top, half anywhere."""
    anywhere, near = torch.rand(clips) * top, top * (1 - 0.12 * torch.rand(clips))
    spread = torch.where(torch.rand(clips) < 0.5, near, anywhere).clamp(min=10.0)
    return torch.where(torch.rand(clips) < regression_share, torch.full_like(spread, float(top)), spread)


def decoded_cuts(
    vae: nn.Module, estimate: Tensor, true: Tensor, landmarks: Tensor, anywhere: float = 0.0
) -> tuple[Tensor, Tensor]:
    """One cut a frame, decoded and true ``[n, 3, h, w]``: around the mouth, an eye, or ``anywhere`` for a share.

    Args:
        estimate: x_0 latents ``[n, c, s, s]``; true: pictures ``[n, 3, H, W]``; landmarks: ``[n, 68, 2]``.
    """
    size, scale = estimate.shape[-1], true.shape[-1] // estimate.shape[-1]
    side = size // 2
    cuts, targets = [], []
    for i in range(len(estimate)):
        eye = EYE_PICTURE_LEFT if torch.rand(()) < 0.5 else EYE_PICTURE_RIGHT
        centre = landmarks[i, LIPS if torch.rand(()) < 0.55 else eye].mean(0) * size
        if anywhere and torch.rand(()) < anywhere:
            centre = torch.rand(2) * size
        x, y = ((centre - side / 2).round().long() + torch.randint(-1, 2, (2,))).clamp(0, size - side).tolist()
        cuts.append(estimate[i, :, y : y + side, x : x + side])
        targets.append(true[i, :, y * scale : (y + side) * scale, x * scale : (x + side) * scale])
    output, target = vae.decode(torch.stack(cuts)), torch.stack(targets)
    # The cut's edge lacks the latents beside it, so the decoder's first cell in is not judged.
    inner = slice(scale, -scale)
    return output[..., inner, inner].float(), target[..., inner, inner]


def decoded_loss(vae: nn.Module, estimate: Tensor, true: Tensor, landmarks: Tensor) -> Tensor:
    """L1 and Laplacian difference in pixels of :func:`decoded_cuts`."""
    return picture_loss(*decoded_cuts(vae, estimate, true, landmarks))


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 and Laplacian difference of pictures ``[n, 3, h, w]``."""
    return (output - target).abs().mean() + laplacian_loss(output, target)


def denoiser_losses(
    denoiser: Denoiser,
    batch: Batch,
    schedule: NoiseSchedule,
    timestep: Tensor,
    *,
    bypass_temporal: bool,
    vae: nn.Module | None = None,
    decode_weight: float = 0.0,
    refined: Tensor | None = None,
    anywhere: float = 0.0,
    adversary: Adversary | None = None,
    adversary_weight: float = 0.0,
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of one batch and the estimate of x_0 ``[b, f, c, h, w]`` (detached).

    Args:
        timestep: ``[b]``; refined: ``[b]`` true for clips whose noisy latents are made from the model's own one-step
            estimate instead of the truth, as they are in the later steps of sampling.
        anywhere: share of the decoded cuts that lie anywhere; adversary: critic of the cuts, and its weight.
    """
    attention = denoiser.archived_clip_prior.reference_attention(batch.reference)
    f_ac = denoiser.archived_clip_prior(attention, batch.archive)
    noise = torch.randn_like(batch.latents)
    noisy = schedule.add_noise(batch.latents, noise, timestep)
    if refined is not None and refined.any():
        noisy[refined] = _own_noisy(denoiser, batch, schedule, timestep, f_ac, refined, bypass_temporal)
    prediction, _ = denoiser.unet(
        noisy, timestep, f_ac, batch.motion, guide=batch.guide, bypass_temporal=bypass_temporal
    )
    prediction = prediction.float()
    if schedule.kind == "epsilon":
        target = schedule.target(batch.latents, noise, timestep, batch.guide)
    else:
        target = schedule.target_at(batch.latents, noisy, timestep, batch.guide)
    weights = region_weights(batch.landmarks, batch.latents.shape[-1])
    mse = ((prediction - target).square() * weights).mean()
    losses = {"loss": mse, "mse": mse}
    estimate = schedule.estimate(prediction, noisy, timestep, batch.guide)
    if vae is not None and batch.pictures is not None:
        seen, points = estimate[:, batch.shown].flatten(0, 1), batch.landmarks[:, batch.shown].flatten(0, 1)
        output, true = decoded_cuts(vae, seen, batch.pictures.flatten(0, 1), points, anywhere)
        losses["decoded"] = picture_loss(output, true)
        losses["loss"] = mse + decode_weight * losses["decoded"]
        if adversary is not None:
            losses["critic"] = adversary.teach(output, true)
            losses["reward"] = adversary.reward(output, true)
            losses["loss"] = losses["loss"] + adversary_weight * losses["reward"]
    return losses, estimate.detach()


@torch.no_grad()
def _own_noisy(
    denoiser: Denoiser,
    batch: Batch,
    schedule: NoiseSchedule,
    timestep: Tensor,
    f_ac: Tensor,
    chosen: Tensor,
    bypass_temporal: bool,
) -> Tensor:
    """Noisy latents of the chosen clips from the model's own one-step estimate, as after the sampler's first step."""
    latents = batch.latents[chosen]
    guide = None if batch.guide is None else batch.guide[chosen]
    motion = None if batch.motion is None else batch.motion[chosen]
    top = torch.full((len(latents),), float(schedule.num_train_timesteps - 1))
    start = torch.randn_like(latents) * torch.rand(len(latents), 1, 1, 1, 1) * 0.3
    prediction, _ = denoiser.unet(start, top, f_ac[chosen], motion, guide=guide, bypass_temporal=bypass_temporal)
    first = schedule.estimate(prediction.float(), start, top, guide)
    return schedule.add_noise(first, start, timestep[chosen])


def load_data(
    folders: Iterable[Path], vae_weights: Path, codec_weights: Path | None, config: MCDMConfig, seed: int,
    limit: int | None = None, minimum: int | None = None, shares: Sequence[float] | None = None,
) -> LatentClips:  # fmt: skip
    """Clips of at least ``minimum`` frames (two clips' length) with the frozen autoencoder; stage 3: and codec."""
    from safetensors.torch import load_file

    vae = build_autoencoder(config).to(memory_format=torch.channels_last)
    vae.load_state_dict(_component(load_file(str(vae_weights)), "vae"))
    codec = None
    if codec_weights is not None:
        codec = load_codec(codec_weights, config)
    clips = read_clips(folders, minimum or 2 * config.clip_frames, seed, limit)
    return LatentClips(clips, vae, config, codec, shares=shares)


def _component(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """A component's state dict, of a file that holds it with or without its prefix."""
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    return own or dict(state)


def train_stage(
    stage: int,
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    *,
    start_from: Path | None = None,
    codec_weights: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    clips: int = 8,
    frames: int = 4,
    learning_rate: float = 1e-3,
    regression_steps: int = 300,
    regression_share: float = 0.5,
    decode_weight: float = 5.0,
    decode_frames: int = 2,
    refine_share: float = 0.2,
    anywhere: float = 0.25,
    adversary_weight: float = 0.07,
    adversary_from: float = 1500.0,
    shares: Sequence[float] | None = None,
    every: int = 8,
    limit: int | None = None,
    motion_dropout: float = 0.1,
    train_backbone: bool | None = None,
    validate_every: int = 300,
    pictures: Path | None = None,
    cache: Path | None = None,
    resume: bool = True,
    bfloat16: bool = True,
    config: MCDMConfig = TINY,
    seed: int = 0,
) -> TrainResult:
    """Train one stage; see :func:`train_stage1` and :func:`train_stage3`.

    Args:
        start_from: weights of an earlier stage; codec_weights: of the motion codec (stage 3).
        minutes, steps: limits, those of the runs resumed included.
        clips, frames: a batch is ``frames`` of each of ``clips`` clips.
        regression_steps: length of the plain regression at the start; regression_share: its share afterwards.
        decode_weight, decode_frames: weight of the decoded cuts, and of how many frames of each clip.
        refine_share: share of clips that go on from the model's own estimate; anywhere: of cuts not at mouth or eyes.
        adversary_weight: of the critic of the cuts, used after ``adversary_from`` seconds of training.
        shares: how often clips of each folder are drawn; by default as often as there are clips.
        every: draw only every so many-th frame as a target (stage 3: as the first one); limit: of that many clips.
        motion_dropout: share of batches without motion tokens (for guidance).
        train_backbone: see :func:`freeze_for_stage`; by default for ``tiny`` only.
        pictures: folder of validation pictures; cache: file that keeps latents and guides between runs.
        bfloat16: compute in bfloat16 where the processor can.
    """
    from safetensors.torch import load_file

    torch.manual_seed(seed)
    random = np.random.default_rng([seed, stage])
    folders = [Path(folder) for folder in folders]
    backbone = config.preset == "tiny" if train_backbone is None else train_backbone
    schedule = NoiseSchedule(config)
    minimum = 2 * config.clip_frames if stage == 3 else frames
    data = load_data(folders, vae_weights, codec_weights, config, seed, limit, minimum, shares)
    held_out = load_data(validation_folders, vae_weights, codec_weights, config, seed, limit=8)
    if cache is not None and data.load(cache):
        logger.info("latents of %s taken back", cache.name)
    denoiser = Denoiser(config).to(memory_format=torch.channels_last)
    if start_from is not None:
        denoiser.load_state_dict(load_file(str(start_from)))
    trained = freeze_for_stage(denoiser, stage, backbone)
    logger.info("stage %d: %d clips, %d parameter tensors train", stage, len(data), len(trained))
    bypass = stage == 1
    adversary = Adversary() if adversary_weight else None
    began = time.monotonic()
    top = config.diffusion.num_train_timesteps - 1

    def losses(step: int) -> Mapping[str, Tensor]:
        share = 1.0 if step < regression_steps else regression_share
        with_motion = stage == 3 and random.random() >= motion_dropout
        # Latents are kept in half precision anyway.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            batch = sample_batch(
                data, clips, frames, random, motion=with_motion, consecutive=not bypass, pictures=decode_frames,
                every=every,
            )  # fmt: skip
        timestep = sample_timesteps(clips, share if schedule.kind == "prior_residual" else 0.0, top)
        refined = (torch.rand(clips) < refine_share * (step >= regression_steps)) & (schedule.kind == "prior_residual")
        # Sampling in n steps goes on at (n - 1) / n of the way at most.
        timestep = torch.where(refined, top * (0.1 + 0.7 * torch.rand(clips)), timestep)
        judged = adversary if time.monotonic() - began >= adversary_from else None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            parts, estimate = denoiser_losses(
                denoiser, batch, schedule, timestep, bypass_temporal=bypass, vae=data.vae, decode_weight=decode_weight,
                refined=refined, anywhere=anywhere, adversary=judged, adversary_weight=adversary_weight,
            )  # fmt: skip
        # At low noise an estimate is nearly the truth: only what sampling would give goes into archives.
        generated = refined | (timestep > 0.8 * top)
        for (clip, indices), samples, own in zip(batch.sources, estimate, generated, strict=True):
            if own:
                data.remember(clip, indices, samples)
        return parts

    def validate(module: nn.Module, step: int) -> dict[str, float]:
        added = data.add_new(folders, minimum, seed) if limit is None else 0
        logger.info("%d clips, %d of them new", len(data), added)
        if cache is not None:
            data.save(cache)
        path = None if pictures is None else Path(pictures) / f"unet_stage{stage}_{step:06d}.png"
        return validate_denoiser(module, held_out, schedule, bypass_temporal=bypass, motion=stage == 3, picture=path)

    settings = LoopSettings(
        output=output, steps=steps, minutes=minutes, learning_rate=learning_rate, weight_decay=1e-2, ema_decay=0.995,
        validate_every=validate_every, save_every=validate_every, log_every=25, resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "unet", "stage": str(stage), "vae": data.fingerprint},
    )  # fmt: skip
    return train(denoiser, losses, settings, validate)


def train_stage1(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    **settings: Any,
) -> TrainResult:
    """Stage 1: the archived-clip prior and its reference attention (and ``tiny``'s UNet), layer 4 bypassed.

    Args:
        folders, validation_folders: folders of shards.
        vae_weights: of the frozen autoencoder.
        output: weights file with the prefixes ``archived_clip_prior.`` and ``unet.``.
        settings: of :func:`train_stage`.
    """
    return train_stage(1, folders, validation_folders, vae_weights, output, **settings)


def train_stage3(
    folders: Iterable[Path],
    validation_folders: Iterable[Path],
    vae_weights: Path,
    output: Path,
    start_from: Path,
    codec_weights: Path,
    **settings: Any,
) -> TrainResult:
    """Stage 3: present-clip reference attention and temporal attention (and ``tiny``'s UNet), from stage 1's weights.

    Raises:
        WeightsError: if stage 1's or the motion codec's weights are missing.
    """
    for path, what in ((start_from, "Stage 1's weights"), (codec_weights, "The motion codec's weights")):
        if not Path(path).exists():
            raise WeightsError(f"{what} are expected at {path}; train them first.")
    defaults: dict[str, Any] = {
        "clips": 2, "frames": 16, "learning_rate": 5e-4, "regression_steps": 0, "decode_frames": 8,
        "adversary_from": 0.0, "every": 16,
    }  # fmt: skip
    return train_stage(
        3,
        folders,
        validation_folders,
        vae_weights,
        output,
        start_from=start_from,
        codec_weights=codec_weights,
        **{**defaults, **settings},
    )
