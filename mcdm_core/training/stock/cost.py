"""What a stage costs: operations and memory counted on tensors without values, hours from a rate of operations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...config import MCDMConfig
from ...models.unet import DenoisingUNet
from ...models.vae import build_autoencoder
from ..unet.denoiser import Denoiser, freeze_for_stage
from .recompute import blocks_of, recompute_activations
from .train import StockRecipe

GPUS: dict[str, tuple[float, float]] = {
    "RTX 3060 12 GB": (25.6, 12.0),
    "RTX 4090": (165.2, 24.0),
    "A100 80 GB": (312.0, 80.0),
    "H100 80 GB": (989.0, 80.0),
}
"""Peak TFLOP/s of dense bfloat16 with float32 sums, and gigabytes, by the makers' data sheets."""
ASSUMED_SHARE = 0.35
"""Share of the peak that a step is taken to reach where none was measured."""


@dataclass(frozen=True)
class StageCost:
    """One sample of a stage, and the memory of one process.

    Attributes:
        forward, training: operations (a multiplication with its addition counts two) of the denoiser forward, and
            forward and backward with what is computed twice; encoding: of the frozen autoencoder.
        fixed: bytes of weights, gradients, moments and averages; activations: bytes of a sample's.
        values, trained: numbers of the denoiser, and those that train.
    """

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

    def hours(self, recipe: StockRecipe, tflops: float, gpus: int) -> float:
        """Of the whole stage, at ``tflops`` reached by each GPU; one of more GPUs than samples still takes a sample."""
        share = -(-recipe.batch // (recipe.accumulate * gpus)) * recipe.accumulate
        return recipe.steps * share * (self.training + self.encoding) / (tflops * 1e12) / 3600


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
    saved = _SavedBytes(denoiser.unet)
    with FlopCounterMode(display=False) as counter, saved:
        loss = _loss(denoiser, config, stage, "meta")
        forward = counter.get_total_flops()
        loss.backward()
        training = counter.get_total_flops()
    if recipe.checkpointing:
        training += forward
    values = sum(p.numel() for p in denoiser.parameters())
    trained = sum(p.numel() for p in denoiser.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in vae.parameters())
    # The weights and their average in 4 bytes; of what trains the gradient, and two moments.
    fixed = 4 * frozen + 8 * values + (6 if recipe.eight_bit else 12) * trained
    kept = saved.entered + max(saved.blocks, default=0) if recipe.checkpointing else sum(saved.blocks) + saved.outside
    activations = kept * (0.5 if recipe.bfloat16 else 1.0)
    return StageCost(float(forward), float(training), float(encoding), float(fixed), activations, values, trained)


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
    """Bytes that the graph keeps, by the block that keeps them; weights do not count."""

    def __init__(self, unet: DenoisingUNet) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.blocks: list[float] = []
        self.entered = 0.0
        self.outside = 0.0
        self._inside = False
        self._seen: set[int] = set()
        self._own = {id(p) for p in unet.parameters()}
        for block in blocks_of(unet):
            block.register_forward_pre_hook(self._enter)
            block.register_forward_hook(self._leave)

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.blocks.append(0.0)
        self.entered += inputs[0].numel() * inputs[0].element_size()
        self._inside = True

    def _leave(self, *_: Any) -> None:
        self._inside = False

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if not isinstance(tensor, nn.Parameter) and id(tensor) not in self._own and storage not in self._seen:
            self._seen.add(storage)
            size = tensor.numel() * tensor.element_size()
            if self._inside:
                self.blocks[-1] += size
            else:
                self.outside += size
        return tensor


def stage_costs(config: MCDMConfig, recipe: StockRecipe) -> dict[int, StageCost]:
    """Costs of stages 1 and 3; the UNet's own weights train in stage 1 alone, as they do by default."""
    return {
        stage: stage_cost(config, stage, recipe if stage == 1 else dataclasses.replace(recipe, backbone=False))
        for stage in (1, 3)
    }


def cost_table(
    costs: Mapping[int, StageCost],
    recipe: StockRecipe,
    gpus: tuple[int, ...] = (1, 4, 8),
    share: float = ASSUMED_SHARE,
) -> list[Mapping[str, Any]]:
    """A row for each stage, kind of GPU and number of them: gigabytes, whether they fit, and hours."""
    rows = []
    for stage, cost in costs.items():
        for name, (peak, room) in GPUS.items():
            for count in gpus:
                samples = -(-recipe.batch // (recipe.accumulate * count))
                need = cost.memory(samples)
                rows.append(
                    {
                        "stage": stage,
                        "gpu": name,
                        "gpus": count,
                        "gigabytes": round(need, 1),
                        "fits": need < 0.92 * room,
                        "hours": round(cost.hours(recipe, share * peak, count), 1),
                    }
                )
    return rows
