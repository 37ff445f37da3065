"""What a stage costs: operations and memory counted on tensors without values, hours from a rate of operations."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...config import MCDMConfig
from ...errors import PackageError
from ...models.audio_encoder import Wav2Vec2AudioEncoder, build_audio_encoder
from ...models.image_encoder import build_image_encoder
from ...models.motion_codec import FACE_SIZE, MOUTH_SIZE, MotionCodec
from ...models.present_clip_prior import PresentClipPrior
from ...models.vae import build_autoencoder
from ..unet.denoiser import Denoiser, freeze_for_stage
from .motion_samples import MARGIN
from .recompute import blocks_of, recompute_activations
from .train import StockCodecRecipe, StockRecipe

logger = logging.getLogger(__name__)


class Gpu(NamedTuple):
    """Peak TFLOP/s of dense bfloat16 with float32 sums and of float32, and gigabytes, by the makers' data sheets."""

    bfloat16: float
    float32: float
    room: float


GPUS: dict[str, Gpu] = {
    "RTX 3060 12 GB": Gpu(25.6, 12.7, 12.0),
    "RTX 4090": Gpu(165.2, 82.6, 24.0),
    "A100 80 GB": Gpu(312.0, 19.5, 80.0),
    "H100 80 GB": Gpu(989.0, 67.0, 80.0),
}
ASSUMED_SHARE = 0.35
"""Share of the peak that a step is taken to reach where none was measured."""


@dataclass(frozen=True)
class StageCost:
    """One sample of a stage, and the memory of one process.

    Attributes:
        recipe: how many steps of which batch; a sample of the codec is a couple of frames.
        forward, training: operations (a multiplication with its addition counts two) of what trains forward, and
            forward and backward with what is computed twice; encoding: of the frozen networks.
        fixed: bytes of weights, gradients, moments and averages; activations: bytes of a sample's.
        values, trained: numbers of what is computed with gradients, and those that train.
    """

    recipe: StockRecipe

    forward: float
    training: float
    encoding: float
    fixed: float
    activations: float
    values: int
    trained: int

    def memory(self, samples: int) -> float:
        """Gigabytes of a process that computes so many samples at once."""
        return (self.fixed + self.activations * samples) / 1e9

    def at_once(self, gpus: int) -> int:
        """Samples that each GPU computes at once; one of more GPUs than samples still takes a sample."""
        return -(-self.recipe.batch // (self.recipe.accumulate * gpus))

    def hours(self, gpu: Gpu, share: float, gpus: int) -> float:
        """Of the whole stage, where each GPU reaches a ``share`` of its peak."""
        samples = self.recipe.steps * self.at_once(gpus) * self.recipe.accumulate
        reached = share * (gpu.bfloat16 if self.recipe.bfloat16 else gpu.float32) * 1e12
        return samples * (self.training + self.encoding) / reached / 3600


def stage_cost(config: MCDMConfig, stage: int, recipe: StockRecipe) -> StageCost:
    """Count a sample of stage 1 or 3 on the meta device: nothing is computed, so ``base`` is counted in seconds."""
    with torch.device("meta"):
        denoiser = Denoiser(config)
        vae = build_autoencoder(config).requires_grad_(False)
        freeze_for_stage(denoiser, stage, recipe.backbone)
        frames = torch.empty(2 * config.clip_frames + 1, 3, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae.encode(frames)
    encoding = counter.get_total_flops()
    saved = _SavedBytes(blocks_of(denoiser.unet))
    with FlopCounterMode(display=False) as counter, saved:
        loss = _loss(denoiser, config, stage, "meta")
        forward = counter.get_total_flops()
        loss.backward()
        training = counter.get_total_flops()
    if recipe.checkpointing:
        training += forward
    kept = saved.entered + max(saved.blocks, default=0) if recipe.checkpointing else saved.total
    return _cost(recipe, denoiser, [vae], (forward, training, encoding), kept)


def prior_cost(config: MCDMConfig, recipe: StockRecipe) -> StageCost:
    """Count a sample of stage 2: the prior, and what is read of pictures and sound.

    Raises:
        PackageError: if a package of the encoders is missing.
    """
    frames, known = config.clip_frames, config.present_clip_prior.context_frames
    seconds = (frames + known) / config.fps + 2 * MARGIN
    side, codec = config.image_encoder.image_size, config.motion_codec
    with torch.device("meta"):
        # Some buffers, and a parameter of Wav2Vec, are made on the CPU whatever is asked for.
        prior = PresentClipPrior(config).to("meta")
        frozen = [MotionCodec(config).eval(), build_audio_encoder(config).to("meta"), build_image_encoder(config)]
        motion, audio, image = frozen
        faces = torch.empty(1, frames + known, 3, codec.image_size, codec.image_size)
        points = torch.empty(1, frames + known, codec.num_landmarks, 2)
        picture, sound = torch.empty(1, 3, side, side), torch.empty(round(seconds * config.audio_encoder.sample_rate))
        time = torch.zeros(1, dtype=torch.long)
    assert isinstance(audio, Wav2Vec2AudioEncoder) and isinstance(motion, MotionCodec)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens = motion.encode(faces, points).cat()
        seen = image(picture)
        speech = audio.features(sound)[None, : frames + known, None]
    encoding = counter.get_total_flops()
    saved = _SavedBytes()
    with FlopCounterMode(display=False) as counter, saved:
        out = prior(
            tokens[:, known:], time, speech[:, known:], seen, context=tokens[:, :known], context_audio=speech[:, :known]
        )
        forward = counter.get_total_flops()
        out.square().mean().backward()
        training = counter.get_total_flops()
    return _cost(recipe, prior, frozen, (forward, training, encoding), saved.total)


def codec_cost(config: MCDMConfig, recipe: StockCodecRecipe) -> StageCost:
    """Count the motion codec's training, by couples of frames; their sets of exact pairs are counted with them.

    The crops of all frames lie in the GPU's memory beside what is counted.
    """
    couples, crossed = recipe.couples, 4 * recipe.quadruples
    with torch.device("meta"):
        codec = MotionCodec(config)
        rows = 3 * couples + crossed  # each frame once, one of each couple twice
        mouth, face = torch.empty(rows, 3, MOUTH_SIZE, MOUTH_SIZE), torch.empty(rows, 3, FACE_SIZE, FACE_SIZE)
        points = torch.empty(rows, config.motion_codec.num_landmarks, 2)
    saved = _SavedBytes()
    with FlopCounterMode(display=False) as counter, saved:
        tokens = codec.encode_crops(mouth, face, points)
        loss = codec.read_values(tokens).square().mean()
        # Each couple is decoded with its own reference and with another person's, each set as it is and swapped.
        moving = torch.cat([tokens[:couples], tokens[:couples], tokens[:crossed], tokens[:crossed]])
        for decoded in codec.decoder(moving, moving, points[:1].expand(len(moving), -1, -1)):
            loss = loss + decoded.square().mean()
        forward = counter.get_total_flops()
        loss.backward()
        training = counter.get_total_flops()
    whole = StockRecipe(
        steps=recipe.steps, batch=couples, checkpointing=False, bfloat16=False, eight_bit=recipe.eight_bit
    )
    return _cost(whole, codec, [], (forward / couples, training / couples, 0.0), saved.total / couples)


def _cost(
    recipe: StockRecipe,
    module: nn.Module,
    frozen: Sequence[nn.Module],
    operations: tuple[float, float, float],
    kept: float,
) -> StageCost:
    """Of a module that trains beside frozen ones: operations forward, in training and of encoding, and the bytes that
    the graph of a sample keeps in float32."""
    forward, training, encoding = operations
    values = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    beside = sum(p.numel() for network in frozen for p in network.parameters())
    # The weights and their average in 4 bytes; of what trains the gradient, and two moments.
    fixed = 4 * beside + 8 * values + (6 if recipe.eight_bit else 12) * trained
    activations = kept * (0.5 if recipe.bfloat16 else 1.0)
    return StageCost(
        recipe, float(forward), float(training), float(encoding), float(fixed), activations, values, trained
    )


def measured_tflops(config: MCDMConfig, stage: int, recipe: StockRecipe, device: torch.device) -> float:
    """TFLOP/s that a real step of one sample reaches here (forward, backward, no optimiser), the best of three."""
    denoiser = Denoiser(config).to(device).train()
    freeze_for_stage(denoiser, stage, recipe.backbone)
    if recipe.checkpointing:
        recompute_activations(denoiser.unet)
    cost = stage_cost(config, stage, recipe)
    best = float("inf")
    for _ in range(4):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.bfloat16):
            loss = _loss(denoiser, config, stage, device)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return cost.training / best / 1e12


def _loss(denoiser: Denoiser, config: MCDMConfig, stage: int, device: torch.device | str) -> Tensor:
    """A step of one sample on made-up tensors."""
    unet, codec, frames = config.unet, config.motion_codec, config.clip_frames
    shape = (1, frames, unet.latent_channels, unet.latent_size, unet.latent_size)
    with torch.device(device):
        noisy, archive, timestep = torch.zeros(shape), torch.zeros(shape), torch.zeros(1)
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        motion = torch.zeros(1, frames, tokens, codec.motion_dim) if stage == 3 else None
    prior = denoiser.archived_clip_prior
    f_ac = prior(prior.reference_attention(archive[:, 0]), archive)
    prediction, _ = denoiser.unet(noisy, timestep, f_ac, motion, bypass_temporal=stage == 1)
    return (prediction.float() - noisy).square().mean()


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Bytes that the graph keeps, in some blocks by the one that keeps them; weights do not count."""

    def __init__(self, blocks: Iterable[nn.Module] = ()) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.blocks: list[float] = []
        self.entered = 0.0
        self.outside = 0.0
        self._inside = False
        self._seen: set[int] = set()
        for block in blocks:
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave)

    @property
    def total(self) -> float:
        """Of all blocks, and outside of them."""
        return sum(self.blocks) + self.outside

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.blocks.append(0.0)
        self.entered += inputs[0].numel() * inputs[0].element_size()
        self._inside = True

    def _leave(self, *_: Any) -> None:
        self._inside = False

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if not isinstance(tensor, nn.Parameter) and storage not in self._seen:
            self._seen.add(storage)
            size = tensor.numel() * tensor.element_size()
            if self._inside:
                self.blocks[-1] += size
            else:
                self.outside += size
        return tensor


def stage_costs(config: MCDMConfig, recipe: StockRecipe, codec: StockCodecRecipe) -> dict[str, StageCost]:
    """Costs by the name that ``train`` has for a stage.

    The UNet's own weights train in stage 1 alone, as they do by default. Stage 2 is left out, with a warning, where a
    package of its encoders is missing.
    """
    costs = {"codec": codec_cost(config, codec), "unet1": stage_cost(config, 1, recipe)}
    try:
        costs["prior"] = prior_cost(config, recipe)
    except PackageError as error:
        logger.warning("stage 2 (prior) is not counted: %s", error)
    return {**costs, "unet3": stage_cost(config, 3, dataclasses.replace(recipe, backbone=False))}


def cost_table(
    costs: Mapping[str, StageCost],
    gpus: tuple[int, ...] = (1, 4, 8),
    share: float = ASSUMED_SHARE,
    measured: float | None = None,
) -> list[Mapping[str, Any]]:
    """A row for each stage, kind of GPU and number of them: gigabytes, whether they fit, and hours.

    Args:
        measured: TFLOP/s that a step reaches here; with it there are rows of this machine, too.
    """
    kinds = dict(GPUS)
    if measured is not None:
        kinds["as measured here"] = Gpu(measured / share, measured / share, math.inf)
    rows = []
    for stage, cost in costs.items():
        for name, gpu in kinds.items():
            for count in gpus:
                need = cost.memory(cost.at_once(count))
                rows.append(
                    {
                        "stage": stage,
                        "gpu": name,
                        "gpus": count,
                        "gigabytes": round(need, 1),
                        "fits": need < 0.92 * gpu.room,
                        "hours": round(cost.hours(gpu, share, count), 1),
                    }
                )
    return rows
