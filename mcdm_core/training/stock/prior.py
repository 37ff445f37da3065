"""Stage 2 of presets of Stable Diffusion's layout: the present-clip prior, with all encoders frozen (section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ...config import MCDMConfig, to_json
from ...data.tar_clips import TarClips
from ...errors import WeightsError
from ...models.audio_encoder import Wav2Vec2AudioEncoder, build_audio_encoder
from ...models.image_encoder import build_image_encoder
from ...models.motion_codec import MotionCodec
from ...models.present_clip_prior import PresentClipPrior
from ..loop import Tracker, TrainResult, train
from ..prior.losses import noised_error
from ..workers import Workers
from .motion_samples import MARGIN, MotionSamples
from .samples import BatchStream
from .train import StockRecipe, load_parts

logger = logging.getLogger(__name__)

_VALIDATION_SAMPLES = 16
_VALIDATION_SEED = 4242


class PriorAlone(nn.Module):
    """What trains; its keys carry the weight file's prefix."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.present_clip_prior = PresentClipPrior(config)


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


class MotionObjective:
    """Losses of batch after batch; called by the training loop with the batch's number.

    Args:
        batch: samples a call, over all processes; readers: processes that decode; bfloat16: compute in it.
    """

    def __init__(
        self,
        prior: PresentClipPrior,
        encoders: Encoders,
        samples: MotionSamples,
        config: MCDMConfig,
        *,
        batch: int,
        workers: Workers,
        device: torch.device,
        readers: int = 0,
        bfloat16: bool = True,
    ) -> None:
        self.prior, self.encoders, self.config = prior, encoders, config
        self.device, self.bfloat16 = device, bfloat16
        self.stream = BatchStream(samples, batch, workers, device, readers)

    def __call__(self, number: int) -> dict[str, Tensor]:
        """``loss`` over this process's share of batch ``number``."""
        batch = self.stream.next(number)
        return {"loss": self.losses(batch).mean()}

    def losses(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared error ``[b]`` of each sample's noise over alpha squared, as :func:`..prior.losses.diffusion_loss`."""
        known = self.config.present_clip_prior.context_frames
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            with torch.no_grad():
                tokens = self.encoders.codec.encode(batch["faces"], batch["landmarks"]).cat().float()
                image = self.encoders.image(batch["reference"])
                sound = self.encoders.sound_tokens(batch["sound"], tokens.shape[1], self.config.fps)
            before, begins = tokens[:, :known], batch["begins"].view(-1, 1, 1, 1)
            # A video's start: one frame, repeated, is all that is known, and nothing was heard before.
            before = torch.where(begins, before[:, -1:], before) + batch["shake"]
            past_sound = torch.where(begins, self.prior.null_audio.to(sound), sound[:, :known])
            error, weight, _, _ = noised_error(
                self.prior,
                tokens[:, known:],
                batch["given"],
                batch["timestep"],
                batch["noise"],
                audio=sound[:, known:],
                image=image,
                context=before,
                context_audio=past_sound,
                drop_audio=batch["dropped"],
            )
        return error.sum((1, 2, 3)) / weight.expand_as(error).sum((1, 2, 3))


def train_stock_prior(
    data: Path,
    start_from: Sequence[Path],
    output: Path,
    recipe: StockRecipe,
    *,
    workers: Workers | None = None,
    device: torch.device | str = "cpu",
    minutes: float | None = None,
    tracker: Tracker | None = None,
    resume: bool = True,
    seed: int = 0,
) -> TrainResult:
    """Train stage 2 on curated video.

    Args:
        data: output of ``curate``, with ``train`` and ``val``.
        start_from: the assembled file (``convert``), then the folder of training with the motion codec.
        output: ``present_clip_prior.safetensors`` in the folder of training.

    Returns:
        Its validation has ``mse``, and ``mse_wrong`` with another sample's sound: a prior that listens does worse so.

    Raises:
        WeightsError: if an encoder is not in ``start_from``, or the preset's sound is encoded by a network of its own.
    """
    workers, device = workers or Workers(), torch.device(device)
    recipe.check_shared(workers)
    torch.manual_seed(seed)
    config, module, encoders = _load(start_from, device)
    least = config.present_clip_prior.context_frames + config.clip_frames
    clips = TarClips(sorted((Path(data) / "train").glob("*.tar")), at_least=least)
    logger.info("stage 2: %d clips, %d parameter tensors train", len(clips), len(list(module.parameters())))
    objective = MotionObjective(
        module.present_clip_prior,
        encoders,
        MotionSamples(clips, config, seed),
        config,
        batch=recipe.batch // recipe.accumulate,
        workers=workers,
        device=device,
        readers=recipe.readers,
        bfloat16=recipe.bfloat16,
    )
    settings = recipe.settings(
        output,
        minutes=minutes,
        workers=workers,
        tracker=tracker,
        resume=resume,
        metadata={"mcdm_config": to_json(config)},
    )
    tars = sorted((Path(data) / "val").glob("*.tar"))
    held = MotionSamples(TarClips(tars, at_least=least), config, _VALIDATION_SEED) if tars else None
    return train(module, objective, settings, lambda _, step: _validated(objective, held))


@torch.no_grad()
def _validated(objective: MotionObjective, held: MotionSamples | None) -> dict[str, float]:
    """Mean squared error on the same held-out samples each time, with their own sound and with another's."""
    if held is None:
        return {}
    batch = default_collate([held[number] for number in range(_VALIDATION_SAMPLES)])
    batch = {key: value.to(objective.device) for key, value in batch.items()}
    wrong = {**batch, "sound": batch["sound"].roll(1, 0)}
    return {"mse": float(objective.losses(batch).mean()), "mse_wrong": float(objective.losses(wrong).mean())}


def _load(start_from: Sequence[Path], device: torch.device) -> tuple[MCDMConfig, PriorAlone, Encoders]:
    """Configuration, prior and frozen encoders of assembled files and folders of training; later ones win."""
    config, states = load_parts(start_from)
    audio = build_audio_encoder(config)
    if not isinstance(audio, Wav2Vec2AudioEncoder):
        raise WeightsError(f"The preset {config.preset!r} has another audio encoder, with a training of its own.")
    encoders = Encoders(MotionCodec(config), audio, build_image_encoder(config))
    for name, network in zip(("motion_codec", "audio_encoder", "image_encoder"), encoders, strict=True):
        if name not in states:
            how = "train it first (codec)" if name == "motion_codec" else "assemble it with one (convert)"
            raise WeightsError(f"There is no {name} in what is started from; {how}.")
        network.load_state_dict(states[name])
        network.to(device).eval().requires_grad_(False)
    module = PriorAlone(config)
    if "present_clip_prior" in states:
        module.present_clip_prior.load_state_dict(states["present_clip_prior"])
    return config, module.to(device), encoders
