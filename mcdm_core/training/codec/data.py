"""What the motion codec trains on: crops of the clips' frames in memory, the exact pairs, and augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...data.real.stills import SOURCE
from ...data.shards import ClipDataset
from ...errors import MediaError
from ...face.landmarks import BLINK_VALUES
from ...media.pixels import to_bytes, to_unit
from ...models.motion_codec import MotionCodec, mouth_and_face_crops
from ..photographs.moved_portraits import FaceChange, move_portraits, move_values
from ..photographs.shut_lids import shut_lids

MOVED = 6
"""Frames made of a photograph, beside itself: it has no motion of its own (:mod:`..photographs.moved_portraits`)."""
CLOSING = 0.3
"""Mean of the two blink values from which lids count as closing."""


@dataclass
class CodecFrames:
    """Crops ``mouth [n, 3, 48, 48]`` and ``face [n, 3, 64, 64]`` in uint8, and their labels, in memory.

    ``spans`` are the (first, after last) rows of each clip. ``pairs [p, 4]`` are the rows of the exact quadruples.
    Their order is (lips a, expression a), (lips a, expression b), (lips b, expression a), (lips b, expression b).
    ``still [n]`` is True for rows of photographs.
    """

    mouth: Tensor
    face: Tensor
    landmarks: Tensor
    values: Tensor
    spans: list[tuple[int, int]]
    pairs: Tensor
    still: Tensor


def _crops(frames: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    pictures = rearrange(frames.to(landmarks.device), "... h w c -> ... c h w")
    mouth, face = mouth_and_face_crops(to_unit(pictures), landmarks)
    return to_bytes(mouth), to_bytes(face)


def load_codec_frames(
    folders: Sequence[Path], stride: int = 3, limit: int | None = None, device: torch.device | str = "cpu"
) -> CodecFrames:
    """Read shards and keep every ``stride``-th frame's crops and all pairs on ``device``; ``limit`` clips a folder."""
    mouths, faces, points, values, spans, pairs, stills = [], [], [], [], [], [], []
    rows = 0

    def add(frames: Tensor, landmarks: Tensor, value: Tensor, still: bool = False) -> tuple[int, int]:
        nonlocal rows
        stills.append(torch.full((len(frames),), still))
        mouth, face = _crops(frames, landmarks)
        for kept, new in ((mouths, mouth), (faces, face), (points, landmarks), (values, value)):
            kept.append(new)
        rows += len(frames)
        return rows - len(frames), rows

    for folder in folders:
        names = ("frames", "landmarks", "values", "pairs", "pair_landmarks", "pair_values")
        for number, (info, clip) in enumerate(ClipDataset(folder, required=False).clips(names, limit)):
            if info.get("source") == SOURCE:
                spans.append(add(*_moved_still(clip, number, device), still=True))
                continue
            offset = number % stride
            landmarks = clip["landmarks"][offset::stride].float().to(device)
            value = clip["values"][offset::stride].float().to(device)
            spans.append(add(clip["frames"][offset::stride], landmarks, value))
            if "pairs" in clip:
                number_of_pairs = len(clip["pairs"])
                landmarks = clip["pair_landmarks"].float().flatten(0, 1).to(device)
                value = clip["pair_values"].float().flatten(0, 1).to(device)
                first, last = add(clip["pairs"].flatten(0, 1), landmarks, value)
                # Shards hold them with the lips changing first; here the lips are the outer index.
                pairs.append(torch.arange(first, last).view(number_of_pairs, 2, 2).transpose(1, 2).flatten(1))
    if not spans:
        raise MediaError(f"No clips in {', '.join(map(str, folders))}; make the data first.")
    return CodecFrames(
        torch.cat(mouths),
        torch.cat(faces),
        torch.cat(points),
        torch.cat(values),
        spans,
        (torch.cat(pairs) if pairs else torch.zeros(0, 4, dtype=torch.long)).to(device),
        torch.cat(stills).to(device),
    )


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, scale, tilt, recolour, blur and noise crops ``[n, 3, s, s]`` in [-1, 1], each on its own."""
    number, device = len(crops), crops.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(number, *shape, generator=generator, device=device) * (high - low) + low

    angle, scale, shift = uniform(-0.08, 0.08), uniform(0.93, 1.08), uniform(-0.07, 0.07, 2)
    along, across = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([along, -across, shift[:, 0], across, along, shift[:, 1]], dim=-1).view(number, 2, 3)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    x = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    gray = x.mean(1, keepdim=True)
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.2, gray, x)
    x = x * uniform(0.6, 1.3, 1, 1, 1) * uniform(0.85, 1.15, 3, 1, 1) + uniform(-0.25, 0.25, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, uniform(-0.5, 1.0, 1, 1, 1))
    noise = torch.randn(x.shape, generator=generator, device=device)
    return (x + noise * uniform(0.0, 0.08, 1, 1, 1)).clamp(-1.2, 1.2)


def _moved_still(clip: Mapping[str, Tensor], seed: int, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, landmarks and values of a photograph as it is and with :data:`MOVED` other mouths and lids."""
    frame, points, values = (clip[name][:1] for name in ("frames", "landmarks", "values"))
    change = FaceChange.draw(MOVED, torch.Generator().manual_seed(seed))
    pictures = to_unit(rearrange(frame, "n h w c -> n c h w")).expand(MOVED, -1, -1, -1)
    moved, other = move_portraits(pictures, points.float().expand(MOVED, -1, -1), change)
    said = move_values(values.float().expand(MOVED, -1), change)
    # The last of them shuts its eyes as eyes do, which a warp cannot show.
    moved[-1], other[-1] = shut_lids(pictures[0], points[0].float(), np.random.default_rng(seed))
    said[-1] = values[0]
    said[-1, BLINK_VALUES] = 1.0
    frames = torch.cat([frame, rearrange(to_bytes(moved), "n c h w -> n h w c")])
    return frames, torch.cat([points.float(), other]).to(device), torch.cat([values.float(), said]).to(device)


@torch.no_grad()
def encode_rows(codec: MotionCodec, data: CodecFrames, rows: Tensor, chunk: int | None = None) -> Tensor:
    """Raw tokens ``[n, nq, dm]`` of rows of the crops in memory, without augmentation."""
    # Small batches stay in a CPU's caches, a GPU wants large ones.
    chunk = chunk or (256 if data.mouth.device.type == "cpu" else 2048)
    parts = [
        codec.encode_crops(to_unit(data.mouth[r]), to_unit(data.face[r]), data.landmarks[r]) for r in rows.split(chunk)
    ]
    return torch.cat(parts)
