"""Training of the present-clip prior with its audio and image encoders (paper stage 2).

The codec must be trained first: its tokens are the data. A sample is ``clip_frames`` consecutive frames with the frames
before them as un-noised context. The sound is augmented hard (``augmentation.py``), and played slower or faster
together with the motion. Two auxiliary losses read the lips' values, from the audio tokens and from the estimated
motion. They only speed up training and leave the model as the paper has it. An audio encoder that was pretrained
(``training/audio/train.py``) stays frozen, as the paper's does: it has learnt from more voices than there are clips.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn

from ...checkpoint import component_state
from ...config import TINY, MCDMConfig, to_json
from ...data.shards import ClipDataset
from ...face.landmarks import LIP_VALUES
from ...media.pixels import to_unit
from ...models.audio_encoder import build_audio_encoder, log_mel, with_value_head
from ...models.image_encoder import build_image_encoder
from ...models.motion_codec import MotionCodec
from ...models.present_clip_prior import PresentClipPrior
from ...motion.blinks import LidAxis
from ..clip_sampler import ClipBank, ClipSampler, MotionClip, SegmentBatch
from ..codec.data import augment
from ..loop import LoopSettings, train
from .augmentation import OtherFaces, elsewhere, opened_lids
from .linear_paths import fit_closed_lids, fit_linear_paths
from .losses import READOUT_WEIGHT, auxiliary_value_loss, diffusion_loss, lip_readout, readout_loss
from .validation import validate_prior

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
        self.audio_encoder = with_value_head(build_audio_encoder(config))
        self.image_encoder = build_image_encoder(config)


def load_codec(path: Path, config: MCDMConfig) -> MotionCodec:
    """The trained codec from a file with keys prefixed ``motion_codec.``, frozen."""
    codec = MotionCodec(config)
    codec.load_state_dict(component_state(path, "motion_codec"))
    return codec.eval().requires_grad_(False)


@torch.no_grad()
def load_motion_clips(
    folder: Path,
    codec: MotionCodec,
    config: MCDMConfig,
    limit: int | None = None,
    batch: int = 1024,
) -> list[MotionClip]:
    """Encode the clips of a folder's shards with the codec, where its weights are; ``limit`` clips at most.

    About ``batch`` frames are encoded at a time. The clips' tensors are on the CPU.
    """
    device, audio = codec.token_mean.device, config.audio_encoder
    clips: list[MotionClip] = []
    waiting: list[tuple[MotionClip, Tensor]] = []

    def encode() -> None:
        if not waiting:
            return
        pictures = rearrange(torch.cat([frames for _, frames in waiting]).to(device), "... h w c -> ... c h w")
        points = torch.cat([clip.landmarks for clip, _ in waiting]).to(device)
        tokens = codec.encode(to_unit(pictures)[None], points[None]).cat()[0].cpu()
        sizes = [len(frames) for _, frames in waiting]
        for (clip, _), own in zip(waiting, tokens.split(sizes), strict=True):
            clip.tokens = own.clone()
            clips.append(clip)
        waiting.clear()

    names = ("frames", "landmarks", "values", "audio")
    for info, clip in ClipDataset(folder, required=False).clips(names, limit):
        frames, sound = clip["frames"], clip["audio"].float() / 32768
        picked = torch.linspace(0, len(frames) - 1, REFERENCES).round().long()
        made = MotionClip(
            torch.empty(0),
            clip["values"].float(),
            log_mel(sound, audio.sample_rate, audio.num_mels, audio.hop_length),
            rearrange(frames[picked], "n h w c -> n c h w").contiguous(),
            clip["landmarks"].float(),
            info,
            float(info.get("fps", config.fps)),
        )
        waiting.append((made, frames))
        if sum(len(f) for _, f in waiting) >= batch:
            encode()
    encode()
    return clips


class PriorObjective:
    """Losses of one random batch; called by the training loop.

    Args:
        groups: lists of clips (synthetic, real, ...), or a bank of them; each batch draws from every group alike.
        batch: clips a step through the prior; audio_batch: more clips through the audio encoder's value head alone.
    """

    def __init__(
        self,
        modules: PriorModules,
        config: MCDMConfig,
        groups: Sequence[Sequence[MotionClip]] | ClipBank,
        batch: int = 16,
        audio_batch: int = 16,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.modules, self.config = modules, config
        self.sampler = ClipSampler(config, groups, seed, device=device)
        self.batch, self.audio_batch = batch, audio_batch
        self.random, self.generator = self.sampler.random, self.sampler.generator
        codec = config.motion_codec
        self.lips = slice(codec.head_tokens, codec.head_tokens + codec.lip_tokens)
        bank = self.sampler.bank
        means = torch.stack([own.mean(0) for own in bank.each_tokens()])
        self.faces = OtherFaces(means, codec.head_tokens, codec.lip_tokens, modules.present_clip_prior.closed_lids)
        tokens, values = bank.tokens[:, self.lips].flatten(1), bank.values[:, list(LIP_VALUES)]
        self.readout = lip_readout(tokens, values)
        explained = 1 - (values - values.mean(0) - (tokens - tokens.mean(0)) @ self.readout).var(0) / values.var(0)
        logger.info("linear readout of the lip values explains %s", [round(float(e), 3) for e in explained])

    def _some(self, share: float) -> Tensor:
        """Boolean ``[batch]``, True for about ``share`` of the samples."""
        return torch.rand(self.batch, generator=self.generator, device=self.generator.device) < share

    def _image(self, segments: SegmentBatch, known: Tensor, begins: Tensor, other: Tensor) -> Tensor:
        """Image tokens of a reference for each sample; where a video ``begins`` it is the first frame before it."""
        if self.config.image_encoder.kind != "codec":
            # A picture seen exactly would name its clip, whose motion could be learnt by heart.
            pictures = augment(self.sampler.references(segments, self.batch), self.generator)
            return self.modules.image_encoder(pictures)
        earlier = self.sampler.earlier_tokens(segments, self.batch) + other[:, 0]
        return self.modules.image_encoder(torch.where(begins[:, None, None], known[:, -1], earlier))

    def __call__(self, step: int) -> dict[str, Tensor]:
        modules, context = self.modules, self.config.present_clip_prior.context_frames
        segments = self.sampler.sample(self.batch + self.audio_batch)
        frozen = not modules.audio_encoder.value_head.weight.requires_grad
        with torch.set_grad_enabled(not frozen):
            sound = modules.audio_encoder.encode_segment(segments.mels, self.sampler.hop)
            predicted, values = modules.audio_encoder.predict_values(sound), segments.of("values")
            auxiliary = auxiliary_value_loss(predicted[:, context:], values[:, context:])
        other = self.faces.draw(self.batch, self.generator)
        clean = segments.of("tokens", self.batch)
        if self.sampler.bank.opened is not None:
            # The past may blink; what is predicted does not, blinks are drawn for a whole video (motion/blinks.py).
            clean = torch.cat([clean[:, :context], segments.of("opened", self.batch)[:, context:]], dim=1)
        clean = clean + other
        # A video's start: the frame before the clip, repeated, is all that is known.
        known, begins = clean[:, :context], self._some(0.3)
        known = torch.where(begins[:, None, None, None], known[:, -1:], known)
        sound = sound[: self.batch]
        image = self._image(segments, known, begins, other)
        known_sound = sound[:, :context]
        if self.random.random() < 0.3:
            known_sound = None
        given, dropped = self._some(0.3), self._some(AUDIO_DROP)
        # Context in use comes from the model itself: a little noise keeps small errors from growing. In half of the
        # samples hardly any, so that the last frame and how it moved can be trusted where they are true.
        amount = torch.where(self._some(0.5), 0.02, 0.1)[:, None, None, None]
        before = known + amount * torch.randn(known.shape, generator=self.generator, device=known.device)
        loss, estimate, _ = diffusion_loss(
            modules.present_clip_prior,
            clean[:, context:],
            given,
            self.generator,
            audio=sound[:, context:],
            image=image,
            context=before,
            context_audio=known_sound,
            drop_audio=dropped,
        )
        readout = readout_loss(estimate, clean[:, context:], self.readout, self.lips)
        return {
            "loss": loss + 2 * auxiliary + READOUT_WEIGHT * readout,
            "mse": loss,
            "audio": auxiliary,
            "readout": readout,
        }


def train_prior(
    groups: Sequence[list[MotionClip]],
    codec: MotionCodec,
    output: Path,
    minutes: float,
    held: dict[str, list[MotionClip]],
    config: MCDMConfig = TINY,
    batch: int = 12,
    seed: int = 0,
    start_from: Path | None = None,
    audio_from: Path | None = None,
    learning_rate: float = 2e-3,
    resume: bool = True,
    device: torch.device | str = "cpu",
    weight_decay: float = 1e-3,
    validate_every: int = 1000,
) -> dict[str, float]:
    """Train and write ``output`` with the prefixes ``present_clip_prior.``, ``audio_encoder.``, ``image_encoder.``.

    Args:
        held: named lists of clips to validate on; start_from: weights of an earlier run to go on from;
        audio_from: a pretrained audio encoder (``training/audio/train.py``), which then stays as it is;
        device: where the clips lie and the training runs (the modules and the codec are moved there).

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
    modules.to(device)
    codec.to(device)
    random = np.random.default_rng(seed)
    bank = ClipBank([*groups, *([elsewhere(clip, codec, random) for clip in group] for group in groups)], device)
    if audio_from is not None and start_from is None:
        fit_linear_paths(modules, config, bank)
    fit_closed_lids(modules.present_clip_prior, codec, bank.each_tokens())
    bank.opened = opened_lids(bank, LidAxis.of(codec, modules.present_clip_prior.closed_lids))
    objective = PriorObjective(
        modules, config, bank, batch=batch, audio_batch=0 if audio_from is not None else batch, seed=seed
    )

    def validate(module: PriorModules, step: int) -> dict[str, float]:
        numbers = {}
        for name, clips in held.items():
            if clips:
                numbers.update({f"{name}_{k}": v for k, v in validate_prior(module, codec, clips).items()})
        return numbers

    settings = LoopSettings(
        output,
        minutes=minutes,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        validate_every=validate_every,
        save_every=max(1, validate_every // 4),
        ema_decay=0.997,
        metadata={"mcdm_config": to_json(config)},
        resume=resume,
        draws=objective.sampler.draws,
    )
    return train(modules, objective, settings, validate).validation
