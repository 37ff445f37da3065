"""Training of the small autoencoder on random 64x64 cuts of real and synthetic frames.

Cuts cost a quarter of whole frames and need no labels; where landmarks exist, half of the cuts are centred on the
mouth or an eye, which is the weight those small regions need. Loss: L1 and a Laplacian pyramid (three levels).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..config import TINY, MCDMConfig, to_json
from ..data.real_stills import list_stills, read_still
from ..data.real_video import list_clips, read_clip
from ..media.pixels import frames_to_unit, unit_to_frames
from ..models.vae import TinyAutoencoder
from .loop import LoopSettings, TrainResult, save_state, train

logger = logging.getLogger(__name__)

CUT = 64


@dataclass
class FramePool:
    """Frames ``[h, w, 3]`` uint8, each with landmarks ``[68, 2]`` in [0, 1] or None; ``share`` of a batch drawn here.

    ``zoom`` is the range of source pixels per pixel of a cut: above 1 the source is larger than the model's crops.
    """

    name: str
    frames: list[NDArray[np.uint8]]
    landmarks: list[NDArray[np.float32] | None]
    share: float
    zoom: tuple[float, float] = (1.0, 1.4)


def random_cut(pool: FramePool, random: np.random.Generator, size: int = CUT) -> NDArray[np.uint8]:
    """One square cut ``[size, size, 3]`` of a random frame, at a random scale within the pool's zoom."""
    index = int(random.integers(len(pool.frames)))
    frame, points = pool.frames[index], pool.landmarks[index]
    height, width = frame.shape[:2]
    side = min(int(size * random.uniform(*pool.zoom)), height, width)
    if points is not None and random.random() < 0.5:
        group = points[0:20] if random.random() < 0.55 else points[20:28] if random.random() < 0.5 else points[28:36]
        centre = group.mean(0) * (width, height) + random.normal(0.0, 0.15 * side, 2)
    else:
        centre = random.uniform(0.15, 0.9, 2) * (width, height)
    left = int(np.clip(centre[0] - side / 2, 0, width - side))
    top = int(np.clip(centre[1] - side / 2, 0, height - side))
    cut = frame[top : top + side, left : left + side]
    if side != size:
        cut = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)
    return cut[:, ::-1] if random.random() < 0.5 else cut


def cut_batch(pools: Sequence[FramePool], batch_size: int, random: np.random.Generator) -> Tensor:
    """``[b, 3, 64, 64]`` in [-1, 1], channels last, drawn from the pools by their shares, with shifted colours."""
    shares = np.array([pool.share if pool.frames else 0.0 for pool in pools])
    choice = random.choice(len(pools), batch_size, p=shares / shares.sum())
    cuts = np.stack([random_cut(pools[k], random) for k in choice])
    x = frames_to_unit(cuts)
    gain = torch.from_numpy(random.normal(1.0, 0.07, (batch_size, 3, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(random.normal(0.0, 0.06, (batch_size, 3, 1, 1)).astype(np.float32))
    return (x * gain + offset).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


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


def reconstruction_losses(vae: TinyAutoencoder, x: Tensor, latent_noise: float = 0.05) -> dict[str, Tensor]:
    """L1, Laplacian and a faint pull of the latents to zero; noise on the latents makes the decoder forgiving."""
    latents = vae.encoder(x)
    noisy = latents + latent_noise * latents.detach().float().std() * torch.randn_like(latents)
    output = vae.decoder(noisy).float()
    l1 = (output - x).abs().mean()
    laplacian = laplacian_loss(output, x)
    return {"loss": l1 + laplacian + 1e-4 * latents.float().square().mean(), "l1": l1, "laplacian": laplacian}


def real_pools(stills: Path | None, videos: Path | None, clips: int = 320, every: int = 8) -> list[FramePool]:
    """Pools of portraits (the last 40 left out) and of talking video (the last 50 clips left out)."""
    pools: list[FramePool] = []
    if stills is not None:
        frames = [read_still(p) for p in list_stills(stills, 40)[0]]
        pools.append(FramePool("stills", frames, [None] * len(frames), 0.45, (1.0, 1.9)))
    if videos is not None:
        paths = list_clips(videos)[0]
        paths = paths[:: max(1, len(paths) // clips)]
        frames = [frame for p in paths for frame in read_clip(p, every, with_audio=False).frames]
        pools.append(FramePool("video", frames, [None] * len(frames), 0.2, (1.0, 1.6)))
    return pools


def shard_pool(folder: Path, share: float = 0.35, every: int = 6, name: str = "synthetic") -> FramePool:
    """Every ``every``-th frame, with landmarks, of the shards in a folder (none yet: an empty pool)."""
    pool = FramePool(name, [], [], share, (1.0, 1.25))
    add_shards(pool, folder, set(), every)
    return pool


def add_shards(pool: FramePool, folder: Path, seen: set[str], every: int = 6) -> None:
    """Add the shards not in ``seen`` (which grows) to a pool."""
    for path in sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []:
        if path.name in seen:
            continue
        with safe_open(str(path), framework="np") as file:
            clips = len(json.loads((file.metadata() or {}).get("clips", "[]")))
            for clip in range(clips):
                frames = file.get_tensor(f"{clip}/frames")[::every]
                points = file.get_tensor(f"{clip}/landmarks")[::every]
                pool.frames += list(np.ascontiguousarray(frames))
                pool.landmarks += list(points)
        seen.add(path.name)


def validation_pictures(stills: Path | None, videos: Path | None, shards: Path | None, count: int = 12) -> Tensor:
    """Held-out 128 px crops ``[n, 3, 128, 128]`` in [-1, 1]: portraits, talking video, synthetic frames."""
    pictures: list[NDArray[np.uint8]] = []
    if stills is not None:
        for path in list_stills(stills, 40)[1][:count]:
            pictures.append(cv2.resize(read_still(path)[20:205, 20:205], (128, 128), interpolation=cv2.INTER_AREA))
    if videos is not None:
        for path in list_clips(videos)[1][: count // 2]:
            frame = read_clip(path, with_audio=False).frames[25]
            pictures.append(cv2.resize(frame[20:180, 20:180], (128, 128), interpolation=cv2.INTER_AREA))
    if shards is not None:
        pool = shard_pool(shards, every=25)
        pictures += pool.frames[:: max(1, len(pool.frames) // count)][:count]
    return frames_to_unit(np.stack(pictures))


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
) -> TrainResult:
    """Train the tiny autoencoder and measure its latents.

    Args:
        data_root: folder with ``train`` and ``val`` shards of synthetic clips; new ones are picked up as they appear.
        output: weights file; ``pictures``: folder for the reconstructions looked at during training.
        stills, videos: folders of real portraits and of real talking clips, both optional.
        extra_shards: folders of further labelled shards (real clips), for cuts at eyes and mouth.
        start_from: weights of an earlier run to begin with.
        bfloat16: compute the networks in bfloat16 where the CPU or GPU does (weights stay float32).
    """
    torch.manual_seed(seed)
    random = np.random.default_rng([seed, int(resume)])
    vae = TinyAutoencoder(config).to(memory_format=torch.channels_last)
    if start_from is not None:
        vae.load_state_dict(load_file(str(start_from)))
    pools = real_pools(stills, videos)
    seen: set[str] = set()
    synthetic = FramePool("synthetic", [], [], 0.35, (1.0, 1.25))
    pools.append(synthetic)
    pools += [shard_pool(folder, 0.25, name="labelled") for folder in extra_shards]
    if data_root is not None:
        add_shards(synthetic, Path(data_root) / "train", seen)
    logger.info("pools %s", {pool.name: len(pool.frames) for pool in pools})
    held_out = validation_pictures(stills, videos, Path(data_root) / "val" if data_root else None)
    held_out = held_out.contiguous(memory_format=torch.channels_last)

    def losses(step: int) -> Mapping[str, Tensor]:
        if data_root is not None and step % 400 == 399:
            add_shards(synthetic, Path(data_root) / "train", seen)
        x = cut_batch(pools, batch_size, random)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            return reconstruction_losses(vae, x)

    def validate(module: nn.Module, step: int) -> dict[str, float]:
        rebuilt = torch.cat([module.decoder(module.encoder(part)) for part in held_out.split(8)])
        if pictures is not None:
            contact_sheet(Path(pictures) / f"vae_{step:06d}.png", held_out, rebuilt)
        return {"psnr": float(psnr(rebuilt, held_out).mean())}

    settings = LoopSettings(
        output=output, steps=steps, minutes=minutes, learning_rate=learning_rate, weight_decay=1e-4,
        ema_decay=0.998, validate_every=1000, save_every=1000, resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "vae"},
    )  # fmt: skip
    result = train(vae, losses, settings, validate)
    vae.measure_latents(cut_batch(pools, 1024, random))
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
    sheet = unit_to_frames(torch.cat(lines, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
