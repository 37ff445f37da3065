"""Training of an adapter for ``tiny``: the denoiser of parts learns one person's mouth and eyes.

As stage 3 (:mod:`..parts.train`), with everything frozen but the low-rank change. In half of the steps the archive is
the portrait repeated, as at a video's start (C). What the portrait does not show has to come from the adapter.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...adapter import AdapterInfo, weights_name
from ...checkpoint import load_checkpoint
from ...diffusion.frame_diffusion import FrameDiffusion
from ...errors import WeightsError
from ...face.part_guide import true_parts
from ...face.parts import EYES, MOUTH
from ...models.motion_codec import MotionCodec
from ...models.part_decoder import PartDecoder
from ...models.vae import build_autoencoder
from ..channels_last import channels_last
from ..loop import train
from ..parts.batches import BatchDrawer
from ..parts.losses import LossWeights, PartLosses
from ..parts.painting import Painter, laplacian_energy, region_psnr
from ..parts.rows import FrameRows
from ..parts.steps import StepShares
from ..parts.validation import painting_case
from ..perceptual import PerceptualDistance
from ..unet.denoiser import Denoiser
from .layers import LowRankChange
from .run import LoraResult, adapter_settings, load_frozen

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoraRecipe:
    """How an adapter trains.

    Attributes:
        rank: of the change; clips, frames: of a batch; carried: share of batches with a clip ahead.
        start_share: share of steps whose archive is the portrait repeated.
    """

    rank: int = 16
    clips: int = 2
    frames: int = 8
    learning_rate: float = 2e-3
    carried: float = 0.25
    start_share: float = 0.5
    weights: LossWeights = field(default_factory=lambda: LossWeights(retelling=0.0))


class PersonObjective:
    """Losses of one random batch; called by the training loop with the step number."""

    def __init__(self, seen: PartLosses, begun: PartLosses, recipe: LoraRecipe, seed: int = 0) -> None:
        self.seen, self.begun, self.recipe, self.seed = seen, begun, recipe, seed

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        """Losses with an archive of the person, or with none but the portrait."""
        chance = torch.rand((), generator=torch.Generator().manual_seed(self.seed + step))
        return (self.begun if float(chance) < self.recipe.start_share else self.seen)(self.recipe.weights)


def train_lora(
    folders: Sequence[Path],
    held_folders: Sequence[Path],
    weights: Path,
    output: Path,
    recipe: LoraRecipe | None = None,
    *,
    person: str = "",
    perceptual: Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    validate_every: int = 200,
    bfloat16: bool = True,
    device: torch.device | str = "cpu",
    resume: bool = True,
    seed: int = 0,
) -> LoraResult:
    """Train an adapter of one person.

    Args:
        folders, held_folders: of shards of that person alone; weights: the model file it is for.
        output: of the adapter; person: whom it is of, noted in it.
        perceptual, minutes, steps, bfloat16, resume: see :class:`..parts.stage.PartRun`.

    Raises:
        WeightsError: if the model is damaged or paints no parts; PackageError: without peft.
        MCDMError: without clips.
    """
    recipe = recipe or LoraRecipe()
    torch.manual_seed(seed)
    config, states, _ = load_checkpoint(weights)
    if not config.parts.size:
        raise WeightsError(f"{weights} paints no parts; adapters are trained for models that do, as tiny does.")
    denoiser = channels_last(Denoiser(config), device)
    vae, codec = channels_last(build_autoencoder(config), device), MotionCodec(config).to(device)
    networks = {**dict(denoiser.named_children()), "vae": vae, "motion_codec": codec}
    decoder = None
    if config.part_decoder.block_channels:
        networks["part_decoder"] = decoder = channels_last(PartDecoder(config), device)
    load_frozen(networks, states, weights)
    size, device = config.image_size, torch.device(device)
    rows = FrameRows(folders, codec, size, minimum=3 * recipe.frames, device=device)
    held = FrameRows(held_folders, codec, size, minimum=2 * config.clip_frames, device=device)
    info = AdapterInfo(config.preset, weights_name(states, config), float(recipe.rank), person)
    painter = Painter(denoiser, vae, config, decoder=decoder)
    before = score_person(painter, held)
    logger.info("without the adapter: %s", _words(before))
    change = LowRankChange(denoiser, recipe.rank)
    denoiser.to(device)
    logger.info("%d values train", sum(p.numel() for p in change.parameters()))
    drawer = BatchDrawer(rows, recipe.frames, [1.0] * len(folders), seed)
    settings = adapter_settings(
        output,
        info,
        recipe.learning_rate,
        minutes=minutes,
        steps=steps,
        validate_every=validate_every,
        resume=resume,
        draws=(drawer.random,),
    )
    distance = None if perceptual is None else PerceptualDistance.from_file(perceptual).to(device)

    def losses(archive: bool) -> PartLosses:
        return PartLosses(
            denoiser,
            vae,
            drawer,
            FrameDiffusion(config),
            config.parts.size,
            clips=recipe.clips,
            shares=StepShares(),
            bypass_temporal=False,
            carried=recipe.carried,
            archive=archive,
            bfloat16=bfloat16,
            perceptual=distance,
        )

    result = train(
        change,
        PersonObjective(losses(True), losses(False), recipe, seed),
        settings,
        lambda _, step: score_person(painter, held),
    )
    logger.info("with the adapter: %s", _words(result.validation))
    return LoraResult(before, result.validation, result.steps)


@torch.no_grad()
def score_person(painter: Painter, rows: FrameRows, clips: int = 8) -> dict[str, float]:
    """Means over clips of a person painted from one portrait: ``mouth`` and ``lids`` in dB inside what is painted.

    ``seen`` is the mouth where an archive shows the person's open mouths; ``sharpness``: detail over the true one's.
    """
    size = painter.config.parts.size
    totals: dict[str, float] = {"mouth": 0.0, "lids": 0.0, "seen": 0.0, "sharpness": 0.0}
    chosen = [clip for clip in rows.clips if not clip.still][:clips]
    for clip in chosen:
        case = painting_case(rows, clip, painter.config.clip_frames)
        views, judged = painter.views(case, case.landmarks), case.judged
        true = true_parts(case.frames[None], views.squares, size)
        painted, seen = painter.paint(case, teeth=False), painter.paint(case, teeth=True)
        for name, video, part in (("mouth", painted, MOUTH), ("lids", painted, EYES), ("seen", seen, MOUTH)):
            scores = region_psnr(video[part, judged], true[part, judged], views.region[part, judged])
            totals[name] += float(scores.mean())
        region = views.region[MOUTH, judged]
        detail = [laplacian_energy(video[MOUTH, judged], region) for video in (painted, true)]
        totals["sharpness"] += float(detail[0] / detail[1])
    return {name: total / len(chosen) for name, total in totals.items()}


def _words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
