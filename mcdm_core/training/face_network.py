"""Training of the face network's landmarks, pose, values and confidence on synthetic frames, heavily augmented.

Synthetic frames know every point exactly; the augmentation (turn, scale, shift, blur, colour, shadow, noise, hidden
parts, flip) is what carries them over to photographs. Crops without a face, or with one far out of place, teach the
confidence. Real frames labelled by an earlier network may be mixed in.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from safetensors import safe_open
from torch import Tensor, nn

from ..config import TINY, MCDMConfig, to_json
from ..errors import MediaError
from ..media.pixels import to_unit, unit_to_frames
from ..models.face_network import FaceNetwork
from ..models.landmarks import (
    INNER_LIP_PAIRS,
    LID_PAIRS,
    LIDS,
    LIPS,
    mirror_landmarks,
    mirror_pose,
    mirror_values,
)
from .loop import LoopSettings, TrainResult, save_state, train

logger = logging.getLogger(__name__)

_GAPS = torch.tensor([*INNER_LIP_PAIRS, *LID_PAIRS[0], *LID_PAIRS[1]])
POSE_SCALE = torch.tensor([0.3, 0.3, 0.3, 0.1, 0.1, 0.2])


@dataclass
class LabelledFrames:
    """Frames uint8 ``[n, 3, 128, 128]`` with landmarks ``[n, 68, 2]``, pose ``[n, 6]``, values ``[n, 16]``.

    ``reading_weight`` is 0 for frames whose pose and values are not to be learnt (real ones).
    """

    frames: Tensor
    landmarks: Tensor
    pose: Tensor
    values: Tensor
    reading_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.frames)

    def extend(self, other: LabelledFrames) -> None:
        """Add the frames of another set."""
        for key in ("frames", "landmarks", "pose", "values"):
            setattr(self, key, torch.cat([getattr(self, key), getattr(other, key)]))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures in [-1, 1] and their labels."""
        pictures = to_unit(self.frames[index])
        return pictures, self.landmarks[index], self.pose[index], self.values[index]


def load_frames(
    folder: Path, every: int = 3, reading_weight: float = 1.0, seen: set[str] | None = None
) -> LabelledFrames | None:
    """Every ``every``-th frame of the shards of a folder; shards named in ``seen`` (which grows) are passed over.

    Returns:
        The frames, or None if there is no (new) shard.
    """
    seen = set() if seen is None else seen
    parts: dict[str, list[Tensor]] = {key: [] for key in ("frames", "landmarks", "pose", "values")}
    for path in sorted(Path(folder).glob("*.safetensors")):
        if path.name in seen:
            continue
        seen.add(path.name)
        with safe_open(str(path), framework="pt") as file:
            for clip in range(len(json.loads((file.metadata() or {}).get("clips", "[]")))):
                for key, values in parts.items():
                    part = file.get_tensor(f"{clip}/{key}")[::every]
                    values.append(part.permute(0, 3, 1, 2).contiguous() if key == "frames" else part.float())
    if not parts["frames"]:
        return None
    joined = {key: torch.cat(values) for key, values in parts.items()}
    return LabelledFrames(**joined, reading_weight=reading_weight)


def random_affine(count: int, roll: float = 0.45, scale: float = 0.35, shift: float = 0.16) -> tuple[Tensor, Tensor]:
    """Random similarities as ``[n, 2, 3]`` matrices (output to input, in [-1, 1]), and their ``[n, 2]`` roll and scale.

    ``roll`` in radians and ``scale`` in log units are the largest values; small ones are likelier.
    """
    angle = (torch.rand(count) * 2 - 1) * torch.rand(count).sqrt() * roll
    size = torch.exp((torch.rand(count) * 2 - 1) * scale)
    offset = (torch.rand(count, 2) * 2 - 1) * 2 * shift * torch.rand(count, 1)
    cos, sin = angle.cos() / size, angle.sin() / size
    matrix = torch.stack([torch.stack([cos, -sin, offset[:, 0]], 1), torch.stack([sin, cos, offset[:, 1]], 1)], 1)
    return matrix, torch.stack([angle, size.log()], 1)


def move_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Where points ``[n, k, 2]`` in [0, 1] of the input lie in the output of an affine ``[n, 2, 3]``."""
    centred = points * 2 - 1 - matrix[:, None, :, 2]
    return (torch.linalg.solve(matrix[:, :, :2], centred.transpose(1, 2)).transpose(1, 2) + 1) / 2


def move_faces(
    pictures: Tensor, landmarks: Tensor, pose: Tensor, matrix: Tensor, turned: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply similarities of :func:`random_affine` to pictures, landmarks and pose."""
    grid = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    padding = "border" if torch.rand(()) < 0.5 else "reflection"
    moved = functional.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)
    centre = move_points(pose[:, None, 3:5] + 0.5, matrix)[:, 0] - 0.5
    angles = torch.cat([pose[:, :2], pose[:, 2:3] - turned[:, :1]], 1)
    return moved, move_points(landmarks, matrix), torch.cat([angles, centre, pose[:, 5:] + turned[:, 1:]], 1)


def disturb(pictures: Tensor) -> Tensor:
    """Blur, sharpen, recolour, shade, add noise, hide parts; ``[n, 3, s, s]`` about in [-1, 1], labels unchanged."""
    count, _, size, _ = pictures.shape
    x = pictures
    grey = (torch.rand(count, 1, 1, 1) < 0.2).float()
    x = x * (1 - grey) + x.mean(1, keepdim=True) * grey
    x = _hide(x)
    contrast = torch.rand(count, 1, 1, 1) * 0.8 + 0.6
    x = x * contrast * (1 + 0.2 * torch.randn(count, 3, 1, 1)) + 0.22 * torch.randn(count, 1, 1, 1)
    light = functional.interpolate(torch.randn(count, 1, 3, 3), size=size, mode="bilinear") * torch.rand(count, 1, 1, 1)
    x = x * (1 + 0.35 * light) + 0.2 * light
    choice = float(torch.rand(()))
    if choice < 0.35:
        small = int(size / float(torch.randint(2, 5, ())))
        x = functional.interpolate(functional.interpolate(x, size=small, mode="area"), size=size, mode="bilinear")
    elif choice < 0.5:
        x = functional.avg_pool2d(x, 3, 1, 1)
    elif choice < 0.65:
        x = x + 1.0 * (x - functional.avg_pool2d(x, 3, 1, 1))
    x = x + torch.rand(count, 1, 1, 1) * 0.12 * torch.randn_like(x)
    return x.clamp(-1.2, 1.2)


def _hide(pictures: Tensor) -> Tensor:
    """Cover a random rectangle of half of the pictures: shade it, fill it, or lay a part of another picture there."""
    count, _, size, _ = pictures.shape
    x = pictures.clone()
    other = pictures.roll(1, 0).flip(2)
    for k in range(count):
        kind = float(torch.rand(()))
        if kind > 0.6:
            continue
        wide, high = torch.randint(size // 12, size // 3, (2,)).tolist()
        left, top = int(torch.randint(0, size - wide, ())), int(torch.randint(0, size - high, ()))
        area = (k, slice(None), slice(top, top + high), slice(left, left + wide))
        if kind < 0.3:
            x[area] = x[area] * float(torch.rand(()) * 0.8 + 0.3) + float(torch.randn(()) * 0.2)
        elif kind < 0.45:
            x[area] = torch.randn(3, 1, 1) * 0.5
        else:
            x[area] = other[area]
    return x


def make_absent(pictures: Tensor, share: float = 0.12) -> tuple[Tensor, Tensor]:
    """Replace a share of the pictures by crops without a usable face; returns them and presence ``[n]`` (0 or 1)."""
    count = len(pictures)
    absent = torch.rand(count) < share
    number = int(absent.sum())
    if number:
        matrix, _ = random_affine(number, roll=math.pi, scale=0.5, shift=0.3)
        far = torch.rand(number) < 0.5
        enlarge = torch.where(torch.rand(number) < 0.5, 0.25, 3.5)
        matrix[:, :, :2] *= torch.where(far, 1.0, enlarge)[:, None, None]
        direction = torch.randn(number, 2)
        away = direction / direction.norm(dim=1, keepdim=True) * (torch.rand(number, 1) * 0.8 + 1.1)
        matrix[:, :, 2] = torch.where(far[:, None], away, matrix[:, :, 2])
        grid = functional.affine_grid(matrix, [number, *pictures.shape[1:]], align_corners=False)
        pictures = pictures.clone()
        pictures[absent] = functional.grid_sample(
            pictures[absent], grid, padding_mode="reflection", align_corners=False
        )
    return pictures, 1.0 - absent.float()


def reading_losses(
    network: FaceNetwork,
    pictures: Tensor,
    landmarks: Tensor,
    pose: Tensor,
    values: Tensor,
    present: Tensor,
    weight: Tensor,
) -> dict[str, Tensor]:
    """Losses of one batch; ``present`` masks absent faces, ``weight`` ``[n]`` those whose pose and values are unknown.

    Landmarks: smooth L1, lips and lids counting twice; the vectors across lips and lids once more, so that closing
    is seen; pose and values: smooth L1; confidence: cross-entropy.
    """
    found, raw = network.forward_raw(pictures)
    per_point = torch.ones(landmarks.shape[1])
    per_point[LIPS] = 2.0
    per_point[LIDS] = 2.0
    per_point[64:] = 0.5
    mask = present / present.sum().clamp_min(1)
    error = functional.smooth_l1_loss(found, landmarks, beta=0.02, reduction="none").mean(-1)
    points = ((error * per_point).mean(1) * mask).sum()
    gap = (found[:, _GAPS[:, 0]] - found[:, _GAPS[:, 1]]) - (landmarks[:, _GAPS[:, 0]] - landmarks[:, _GAPS[:, 1]])
    gap_error = functional.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.01, reduction="none").mean((1, 2))
    gaps = (gap_error * mask).sum()
    known = present * weight / (present * weight).sum().clamp_min(1)
    pose_error = functional.smooth_l1_loss(raw[:, :6] / POSE_SCALE, pose / POSE_SCALE, reduction="none").mean(1)
    value_error = functional.smooth_l1_loss(raw[:, 6:-1], values, beta=0.2, reduction="none").mean(1)
    poses, numbers = (pose_error * known).sum(), (value_error * known).sum()
    presence = functional.binary_cross_entropy_with_logits(raw[:, -1], present)
    loss = 10.0 * points + 5.0 * gaps + 0.1 * poses + 0.3 * numbers + 0.03 * presence
    return {"loss": loss, "points": points, "gaps": gaps, "pose": poses, "values": numbers, "presence": presence}


def train_face_network(
    data_root: Path,
    output: Path,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = True,
    batch_size: int = 48,
    learning_rate: float = 3e-3,
    real: LabelledFrames | None = None,
    real_share: float = 0.35,
    initial: Mapping[str, Tensor] | None = None,
    looked_at: Tensor | None = None,
    pictures: Path | None = None,
    config: MCDMConfig = TINY,
    bfloat16: bool = True,
    seed: int = 0,
) -> TrainResult:
    """Train landmarks, pose, values and confidence (the box net is trained by ``training/face_boxes.py``).

    Args:
        data_root: folder with ``train`` and ``val`` shards of synthetic clips; new ones are taken up as they appear.
        output: weights file. ``initial``: weights to begin from.
        real: real frames with labels of an earlier network, ``real_share`` of every batch.
        looked_at: real crops ``[n, 3, 128, 128]`` in [-1, 1] drawn with their landmarks into ``pictures``.

    Raises:
        MediaError: if there are no shards.
    """
    torch.manual_seed(seed)
    network = FaceNetwork(config)
    if initial is not None:
        network.load_state_dict(dict(initial))
    seen: set[str] = set()
    synthetic = load_frames(Path(data_root) / "train", seen=seen)
    held_out = load_frames(Path(data_root) / "val", every=15)
    if synthetic is None or held_out is None:
        raise MediaError(f"{data_root} lacks shards (*.safetensors) in train or val; render clips first.")
    network.set_template(synthetic.landmarks)
    network.boxes.requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    logger.info("%d synthetic frames, %d held out, %d real", len(synthetic), len(held_out), len(real) if real else 0)
    sources: Sequence[tuple[LabelledFrames, int]] = [(synthetic, batch_size)]
    if real is not None:
        number = round(batch_size * real_share)
        sources = [(synthetic, batch_size - number), (real, number)]

    def draw() -> tuple[Tensor, ...]:
        parts = [source.batch(torch.randint(len(source), (n,))) for source, n in sources]
        x, landmarks, pose, values = (torch.cat(group) for group in zip(*parts, strict=True))
        weight = torch.cat([torch.full((n,), source.reading_weight) for source, n in sources])
        flip = torch.rand(len(x)) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
        landmarks = torch.where(flip[:, None, None], mirror_landmarks(landmarks), landmarks)
        pose = torch.where(flip[:, None], mirror_pose(pose), pose)
        values = torch.where(flip[:, None], mirror_values(values), values)
        x, landmarks, pose = move_faces(x, landmarks, pose, *random_affine(len(x)))
        x, present = make_absent(x)
        return disturb(x), landmarks, pose, values, present, weight

    def losses(step: int) -> Mapping[str, Tensor]:
        # Clips rendered meanwhile are taken up as they appear.
        fresh = load_frames(Path(data_root) / "train", seen=seen) if step % 200 == 199 else None
        if fresh is not None:
            synthetic.extend(fresh)
        x, *labels = draw()
        network.boxes.eval()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            return reading_losses(network, x.contiguous(memory_format=torch.channels_last), *labels)

    def validate(module: nn.Module, step: int) -> dict[str, float]:
        numbers = evaluate(module, held_out)
        if pictures is not None:
            shown = to_unit(held_out.frames[:: max(1, len(held_out) // 12)][:12])
            if looked_at is not None:
                shown = torch.cat([looked_at, shown])
            drawn_sheet(Path(pictures) / f"face_{step:06d}.png", shown, module(shown).landmarks)
        return numbers

    settings = LoopSettings(
        output=output, steps=steps, minutes=minutes, learning_rate=learning_rate, weight_decay=1e-3,
        ema_decay=0.998, validate_every=500, save_every=500, resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "face_network"},
    )  # fmt: skip
    result = train(network, losses, settings, validate)
    network.set_template(synthetic.landmarks)
    save_state(settings.output, network.state_dict(), {**settings.metadata, "step": str(result.steps)})
    return result


@torch.no_grad()
def evaluate(network: FaceNetwork, held_out: LabelledFrames, batch_size: int = 64) -> dict[str, float]:
    """Mean landmark error in pixels of 128 (all, lips, lids), of pose in radians and of values, on held-out frames."""
    errors, poses, values = [], [], []
    for index in torch.arange(len(held_out)).split(batch_size):
        x, landmarks, pose, truth = held_out.batch(index)
        reading = network(x)
        errors.append((reading.landmarks - landmarks).norm(dim=-1) * 128)
        poses.append((reading.pose[:, :3] - pose[:, :3]).abs())
        values.append((reading.values - truth).abs())
    error = torch.cat(errors)
    return {
        "pixels": float(error.mean()),
        "lips": float(error[:, LIPS].mean()),
        "lids": float(error[:, LIDS].mean()),
        "pose": float(torch.cat(poses).mean()),
        "values": float(torch.cat(values).mean()),
    }


def drawn_sheet(path: Path, crops: Tensor, landmarks: Tensor, columns: int = 12, size: int = 192) -> None:
    """Write crops ``[n, 3, s, s]`` in [-1, 1] with their landmarks: lips red, lids green, the others white."""
    tiles = []
    for crop, points in zip(crops, landmarks, strict=True):
        picture = unit_to_frames(crop)
        tile = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (size, size), interpolation=cv2.INTER_LINEAR)
        for k, (x, y) in enumerate(points.tolist()):
            colour = (60, 60, 255) if k < 20 else (60, 255, 60) if k < 36 else (255, 255, 255)
            cv2.circle(tile, (round(x * size), round(y * size)), 1, colour, -1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows, 0))
