"""Training of the small autoencoder on random 64x64 cuts of real and synthetic frames.

Cuts cost a quarter of whole frames and need no labels. Where landmarks exist, half of the cuts are centred on the mouth
or an eye. That is the weight those small regions need (``data.py``). Loss: L1 and a Laplacian pyramid (three levels);
late in training, if asked for, a small critic of the cuts keeps teeth and lashes sharp.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import torch
import torch.nn.functional as functional
from safetensors.torch import load_file
from torch import Tensor

from ...config import TINY, MCDMConfig, to_json
from ...errors import MediaError
from ...media.pixels import unit_to_frames
from ...models.vae import TinyAutoencoder
from ..adversary import Adversary
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, save_state, train
from .data import cut_batch, real_pools, shard_pool, validation_pictures

logger = logging.getLogger(__name__)

_RAMP = 0.05
"""Part of the training over which the critic's weight grows from 0, while the critic learns."""


def laplacian_loss(output: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute difference of the band-pass levels of two pictures ``[b, 3, h, w]``, summed (finest twice)."""
    difference = output - target
    total = difference.new_zeros(())
    for level in range(levels):
        coarse = functional.avg_pool2d(difference, 2)
        band = difference - functional.interpolate(coarse, scale_factor=2, mode="nearest")
        total = total + (2.0 if level == 0 else 1.0) * band.abs().mean()
        difference = coarse
    return total


def reconstruct(
    vae: TinyAutoencoder, x: Tensor, latent_noise: float = 0.05, bfloat16: bool = False
) -> tuple[Tensor, Tensor]:
    """Pictures ``[b, 3, h, w]`` encoded and decoded; noise on the latents makes the decoder forgiving.

    Returns:
        The output and the latents, both float32.
    """
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        latents = vae.encoder(x)
        noisy = latents + latent_noise * latents.detach().float().std() * torch.randn_like(latents)
        output = vae.decoder(noisy)
    return output.float(), latents.float()


def reconstruction_losses(output: Tensor, latents: Tensor, x: Tensor) -> dict[str, Tensor]:
    """L1, Laplacian and a faint pull of the latents to zero."""
    l1 = (output - x).abs().mean()
    laplacian = laplacian_loss(output, x)
    return {"loss": l1 + laplacian + 1e-4 * latents.square().mean(), "l1": l1, "laplacian": laplacian}


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB a picture, ``[b]``, of pictures in [-1, 1]."""
    error = (output.clamp(-1, 1) - target).square().mean((1, 2, 3)) / 4.0
    return -10.0 * torch.log10(error.clamp_min(1e-10))


def train_vae(
    data_root: Path | None,
    output: Path,
    minutes: float | None = None,
    steps: int | None = None,
    stills: Path | None = None,
    videos: Path | None = None,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
    resume: bool = True,
    pictures: Path | None = None,
    config: MCDMConfig = TINY,
    bfloat16: bool = True,
    extra_shards: Sequence[Path] = (),
    start_from: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    every: int = 6,
    critic_weight: float = 0.0,
    critic_from: float = 0.6,
    validate_every: int = 1000,
) -> TrainResult:
    """Train the tiny autoencoder and measure its latents.

    Args:
        data_root: folder with ``train`` and ``val`` shards of synthetic clips; new ones are picked up as they appear.
        output: weights file; ``pictures``: folder for the reconstructions looked at during training.
        stills, videos: folders of real portraits and of real talking clips, both optional.
        extra_shards: folders of further labelled shards (real clips), for cuts at eyes and mouth.
        start_from: weights of an earlier run to begin with.
        bfloat16: compute the networks in bfloat16 where the CPU or GPU does (weights stay float32).
        device: where the frames lie, the cuts are made and the network is trained.
        every: every how manieth frame of the shards is used.
        critic_weight: of the critic's reward (0: no critic), from ``critic_from`` of the training on.

    Raises:
        MediaError: if there are no frames at all.
    """
    torch.manual_seed(seed)
    device = torch.device(device)
    vae = TinyAutoencoder(config)
    if start_from is not None:
        vae.load_state_dict(load_file(str(start_from)))
    vae = channels_last(vae, device)
    pools = real_pools(stills, videos, device=device)
    pools += filter(None, (shard_pool(f, 0.25, every, "labelled", device=device) for f in extra_shards))
    seen: set[str] = set()
    folder = Path(data_root) / "train" if data_root is not None else None
    synthetic = shard_pool(folder, every=every, seen=seen, device=device) if folder is not None else None
    pools += [synthetic] if synthetic is not None else []
    if not pools:
        raise MediaError("There are no frames to train the autoencoder on; give shards, portraits or videos.")
    logger.info("pools %s", {pool.name: len(pool) for pool in pools})
    held_out = validation_pictures(stills, videos, Path(data_root) / "val" if data_root else None)
    held_out = held_out.to(device).contiguous(memory_format=torch.channels_last)
    adversary = Adversary().to(device) if critic_weight > 0 else None
    settings = LoopSettings(
        output=output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        weight_decay=1e-4,
        ema_decay=0.998,
        validate_every=validate_every,
        save_every=1000,
        resume=resume,
        beside=None if adversary is None else adversary.modules,
        metadata={"mcdm_config": to_json(config), "component": "vae"},
    )

    def losses(step: int) -> Mapping[str, Tensor]:
        if synthetic is not None and folder is not None and step % 400 == 399:
            fresh = shard_pool(folder, every=every, seen=seen, device=device)
            if fresh is not None:
                synthetic.extend(fresh)
        x = cut_batch(pools, batch_size)
        made, latents = reconstruct(vae, x, bfloat16=bfloat16)
        parts = reconstruction_losses(made, latents, x)
        share = min(1.0, max(0.0, (settings.progress - critic_from) / _RAMP))
        if adversary is not None and share > 0:
            parts["critic"] = adversary.teach(made, x)
            parts["reward"] = adversary.reward(made, x)
            parts["loss"] = parts["loss"] + critic_weight * share * parts["reward"]
        return parts

    def validate(module: TinyAutoencoder, step: int) -> dict[str, float]:
        rebuilt = torch.cat([module.decoder(module.encoder(part)) for part in held_out.split(8)])
        if pictures is not None:
            contact_sheet(Path(pictures) / f"vae_{step:06d}.png", held_out, rebuilt)
        return {"psnr": float(psnr(rebuilt, held_out).mean())}

    result = train(vae, losses, settings, validate)
    vae.measure_latents(cut_batch(pools, 1024))
    save_state(settings.output, vae.state_dict(), {**settings.metadata, "step": str(result.steps)})
    return result


def contact_sheet(path: Path, *rows: Tensor, columns: int = 12) -> None:
    """Write rows of pictures ``[n, 3, h, w]`` in [-1, 1] one below the other, ``columns`` a line."""
    lines = []
    for start in range(0, len(rows[0]), columns):
        for row in rows:
            part = row[start : start + columns]
            if len(part) < columns:
                part = torch.cat([part, part.new_zeros(columns - len(part), *part.shape[1:])])
            lines.append(torch.cat(list(part), 2))
    sheet = unit_to_frames(torch.cat(lines, 1).cpu())
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
