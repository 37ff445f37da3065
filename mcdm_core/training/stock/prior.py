"""Stage 2 of presets of Stable Diffusion's layout: the present-clip prior, with all encoders frozen (section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from ..prior.losses import READOUT_WEIGHT, noised_error, readout_loss
from ..workers import Workers
from .motion_samples import MotionSamples
from .motion_study import Encoders, MotionAids
from .samples import BatchStream
from .train import StockRecipe, load_parts

logger = logging.getLogger(__name__)

_VALIDATION_SAMPLES = 16
_VALIDATION_SEED, _STUDY_SEED = 4242, 4343


class PriorAlone(nn.Module):
    """What trains; its keys carry the weight file's prefix."""

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        self.present_clip_prior = PresentClipPrior(config)


class MotionObjective:
    """Losses of batch after batch; called by the training loop with the batch's number.

    What is predicted does not blink, and its head and rest may be another's, as in ``tiny``'s stage 2.

    Args:
        aids: what was learnt of the data.
        batch: samples a call, over all processes; readers: processes that decode; bfloat16: compute in it.
    """

    def __init__(
        self,
        prior: PresentClipPrior,
        encoders: Encoders,
        aids: MotionAids,
        samples: MotionSamples,
        config: MCDMConfig,
        *,
        batch: int,
        workers: Workers,
        device: torch.device,
        readers: int = 0,
        bfloat16: bool = True,
    ) -> None:
        self.prior, self.encoders, self.aids, self.config = prior, encoders, aids, config
        self.device, self.bfloat16 = device, bfloat16
        self.stream = BatchStream(samples, batch, workers, device, readers)

    def __call__(self, number: int) -> dict[str, Tensor]:
        """Losses over this process's share of batch ``number``."""
        error, read = (part.mean() for part in self.losses(self.stream.next(number)))
        return {"loss": error + READOUT_WEIGHT * read, "mse": error, "readout": read}

    def losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Squared error ``[b]`` of each sample's noise over alpha squared, as :func:`..prior.losses.diffusion_loss`,
        and that of the lips' values read off its estimate."""
        known = self.config.present_clip_prior.context_frames
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            with torch.no_grad():
                tokens = self.encoders.codec.encode(batch["faces"], batch["landmarks"]).cat().float()
                head = self.encoders.codec.encode_head(batch["placed"]).float()
                tokens = torch.cat([head, tokens[:, :, head.shape[2] :]], dim=2)
                image = self.encoders.image(batch["reference"])
                sound = self.encoders.sound_tokens(batch["sound"], tokens.shape[1], self.config.fps)
            other = self.aids.others(batch["people"])
            # The past may blink; what is predicted does not, blinks are drawn for a whole video (motion/blinks.py).
            clean = self.aids.bridged(tokens)[:, known:] + other
            before, begins = tokens[:, :known] + other, batch["begins"].view(-1, 1, 1, 1)
            # A video's start: one frame, repeated, is all that is known, and nothing was heard before.
            before = torch.where(begins, before[:, -1:], before) + batch["shake"]
            past_sound = torch.where(begins, self.prior.null_audio.to(sound), sound[:, :known])
            error, weight, estimate, _ = noised_error(
                self.prior,
                clean,
                batch["given"],
                batch["timestep"],
                batch["noise"],
                audio=sound[:, known:],
                image=image,
                context=before,
                context_audio=past_sound,
                drop_audio=batch["dropped"],
            )
        read = [
            readout_loss(one[None], true[None], self.aids.readout, self.aids.lips)
            for one, true in zip(estimate.float(), clean, strict=True)
        ]
        return error.sum((1, 2, 3)) / weight.expand_as(error).sum((1, 2, 3)), torch.stack(read)


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
    plain = MotionSamples(clips, config, _STUDY_SEED, augmented=False)
    aids = MotionAids(module.present_clip_prior, encoders, plain, config, recipe.studied, device)
    objective = MotionObjective(
        module.present_clip_prior,
        encoders,
        aids,
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
    held = MotionSamples(TarClips(tars, at_least=least), config, _VALIDATION_SEED, augmented=False) if tars else None
    return train(module, objective, settings, lambda _, step: _validated(objective, held))


@torch.no_grad()
def _validated(objective: MotionObjective, held: MotionSamples | None) -> dict[str, float]:
    """Mean squared error on the same held-out samples each time, with their own sound and with another's."""
    if held is None:
        return {}
    batch = default_collate([held[number] for number in range(_VALIDATION_SAMPLES)])
    batch = {key: value.to(objective.device) for key, value in batch.items()}
    wrong = {**batch, "sound": batch["sound"].roll(1, 0)}
    return {name: float(objective.losses(b)[0].mean()) for name, b in (("mse", batch), ("mse_wrong", wrong))}


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
