"""Training of the face network's landmarks, pose, values and confidence on synthetic frames, heavily augmented.

Synthetic frames know every point exactly; the augmentation (``augmentation.py``) is what carries them over to
photographs. Crops without a face, or with one far out of place, teach the confidence. Real frames labelled by an
earlier network may be mixed in. Frames lie on the training device as bytes; a batch is made there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor

from ...config import TINY, MCDMConfig, to_json
from ...data.shards import read_rows
from ...errors import MediaError
from ...face.landmarks import (
    INNER_LIP_PAIRS,
    LID_PAIRS,
    LIDS,
    LIPS,
    NUM_LANDMARKS,
    NUM_VALUES,
    mirror_landmarks,
    mirror_pose,
    mirror_values,
)
from ...face.reading.face_network import FaceNetwork
from ...media.pixels import to_unit, unit_to_frames
from ..channels_last import channels_last
from ..frame_store import split_count
from ..loop import LoopSettings, TrainResult, save_state, train
from .augmentation import disturb, move_faces, random_absence, random_affine

logger = logging.getLogger(__name__)

_LABELS = (2 * NUM_LANDMARKS, 6, NUM_VALUES)
_KEYS = ("frames", "landmarks", "pose", "values")


@dataclass
class LabelledFrames:
    """Frames uint8 ``[n, 128, 128, 3]`` with landmarks ``[n, 68, 2]``, pose ``[n, 6]``, values ``[n, 16]``.

    ``reading_weight`` is 0 for frames whose pose and values are not to be learnt (real ones).
    """

    frames: Tensor
    landmarks: Tensor
    pose: Tensor
    values: Tensor
    reading_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> LabelledFrames:
        """The same frames on a device."""
        return LabelledFrames(*(getattr(self, key).to(device) for key in _KEYS), reading_weight=self.reading_weight)

    def extend(self, other: LabelledFrames) -> None:
        """Add the frames of another set, from whatever device."""
        for key in _KEYS:
            own = getattr(self, key)
            setattr(self, key, torch.cat([own, getattr(other, key).to(own.device)]))

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures ``[b, 3, 128, 128]`` in [-1, 1] (channels last) and their labels."""
        pictures = rearrange(to_unit(self.frames[index]), "n h w c -> n c h w")
        return pictures, self.landmarks[index], self.pose[index], self.values[index]

    def labels_both_ways(self) -> Tensor:
        """All labels of the frames and of the flipped frames: ``[2, n, 158]``."""
        straight = (self.landmarks, self.pose, self.values)
        flipped = (mirror_landmarks(self.landmarks), mirror_pose(self.pose), mirror_values(self.values))
        return torch.stack([torch.cat([part.flatten(1) for part in way], 1) for way in (straight, flipped)])


def load_frames(
    folder: Path,
    every: int = 3,
    reading_weight: float = 1.0,
    seen: set[str] | None = None,
    device: torch.device | str = "cpu",
) -> LabelledFrames | None:
    """Every ``every``-th frame of the shards of a folder; shards named in ``seen`` (which grows) are passed over.

    Returns:
        The frames, or None if there is no (new) shard.
    """
    read = read_rows(folder, _KEYS, every, seen, device)
    if read is None:
        return None
    labels = (read[key].float() for key in _KEYS[1:])
    return LabelledFrames(read["frames"], *labels, reading_weight=reading_weight)


class BatchMaker:
    """Augmented batches from several sets of frames, each with a fixed number of pictures a batch."""

    def __init__(self, sources: Sequence[tuple[LabelledFrames, int]]) -> None:
        self.sources = [(source, count) for source, count in sources if count]
        self.refresh()

    def refresh(self) -> None:
        """Take note of frames added to the sources."""
        self.labels = [source.labels_both_ways() for source, _ in self.sources]

    def drawn(self) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffled frames uint8 ``[b, 128, 128, 3]``, half of them flipped, labels ``[b, 158]``, weights ``[b]``."""
        frames, labels, weights = [], [], []
        for (source, count), both in zip(self.sources, self.labels, strict=True):
            device = both.device
            index = torch.randint(len(source), (count,), device=device)
            flip = torch.rand(count, device=device) < 0.5
            picked = source.frames[index]
            frames.append(torch.where(flip[:, None, None, None], picked.flip(2), picked))
            labels.append(both[flip.long(), index])
            weights.append(torch.full((count,), source.reading_weight, device=device))
        order = torch.randperm(sum(map(len, frames)), device=frames[0].device)
        return torch.cat(frames)[order], torch.cat(labels)[order], torch.cat(weights)[order]

    def __call__(self) -> tuple[Tensor, ...]:
        """Pictures ``[b, 3, 128, 128]`` (channels last), landmarks, pose, values, presence and weight ``[b]``."""
        frames, labels, weight = self.drawn()
        landmarks, pose, values = labels.split(_LABELS, 1)
        present, beyond = random_absence(len(frames), device=frames.device)
        affine = random_affine(len(frames), device=frames.device)
        pictures = rearrange(to_unit(frames), "n h w c -> n c h w").contiguous()
        moved = move_faces(pictures, landmarks.unflatten(1, (NUM_LANDMARKS, 2)), pose, *affine, beyond)
        x = disturb(moved.pictures).contiguous(memory_format=torch.channels_last)
        return x, moved.landmarks, moved.pose, values, present, weight


class ReadingLoss:
    """Losses of what the network reads.

    Landmarks: smooth L1, lips and lids counting twice; the vectors across lips and lids once more, so that closing
    is seen; pose and values: smooth L1; confidence: cross-entropy.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        per_point = torch.ones(NUM_LANDMARKS)
        per_point[LIPS] = 2.0
        per_point[LIDS] = 2.0
        per_point[64:] = 0.5
        self.per_point = per_point.to(device)
        self.pose_scale = torch.tensor([0.3, 0.3, 0.3, 0.1, 0.1, 0.2]).to(device)
        pairs = torch.tensor([*INNER_LIP_PAIRS, *LID_PAIRS[0], *LID_PAIRS[1]])
        self.upper, self.lower = (side.contiguous().to(device) for side in pairs.unbind(1))

    def __call__(
        self,
        reading: tuple[Tensor, Tensor],
        landmarks: Tensor,
        pose: Tensor,
        values: Tensor,
        present: Tensor,
        weight: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            reading: of ``FaceNetwork.forward_raw``.
            landmarks, pose, values: the truth.
            present: ``[n]``, masks absent faces; weight: ``[n]``, 0 for those whose pose and values are unknown.
        """
        found, raw = reading
        mask = present / present.sum().clamp_min(1)
        error = functional.smooth_l1_loss(found, landmarks, beta=0.02, reduction="none").mean(-1)
        points = ((error * self.per_point).mean(1) * mask).sum()
        gap = self._gaps(found) - self._gaps(landmarks)
        gap_error = functional.smooth_l1_loss(gap, torch.zeros_like(gap), beta=0.01, reduction="none").mean((1, 2))
        gaps = (gap_error * mask).sum()
        known = present * weight / (present * weight).sum().clamp_min(1)
        scaled = raw[:, :6] / self.pose_scale, pose / self.pose_scale
        pose_error = functional.smooth_l1_loss(*scaled, reduction="none").mean(1)
        value_error = functional.smooth_l1_loss(raw[:, 6:-1], values, beta=0.2, reduction="none").mean(1)
        poses, numbers = (pose_error * known).sum(), (value_error * known).sum()
        presence = functional.binary_cross_entropy_with_logits(raw[:, -1], present)
        loss = 10.0 * points + 5.0 * gaps + 0.1 * poses + 0.3 * numbers + 0.03 * presence
        return {"loss": loss, "points": points, "gaps": gaps, "pose": poses, "values": numbers, "presence": presence}

    def _gaps(self, landmarks: Tensor) -> Tensor:
        return landmarks[:, self.upper] - landmarks[:, self.lower]


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
    device: torch.device | str = "cpu",
    every: int = 3,
    validate_every: int = 500,
) -> TrainResult:
    """Train landmarks, pose, values and confidence (the box net is trained by ``training/face/boxes.py``).

    Args:
        data_root: folder with ``train`` and ``val`` shards of synthetic clips; new ones are taken up as they appear.
        output: weights file. ``initial``: weights to begin from.
        real: real frames with labels of an earlier network, ``real_share`` of every batch.
        looked_at: real crops ``[n, 3, 128, 128]`` in [-1, 1] drawn with their landmarks into ``pictures``.
        device: where the frames lie, are augmented and the network is trained; ``every``: how manieth frame is used.

    Raises:
        MediaError: if there are no shards.
    """
    torch.manual_seed(seed)
    device = torch.device(device)
    network = FaceNetwork(config)
    if initial is not None:
        network.load_state_dict(dict(initial))
    seen: set[str] = set()
    folder = Path(data_root) / "train"
    synthetic = load_frames(folder, every, seen=seen, device=device)
    held_out = load_frames(Path(data_root) / "val", every=15, device=device)
    if synthetic is None or held_out is None:
        raise MediaError(f"{data_root} lacks shards (*.safetensors) in train or val; render clips first.")
    network = channels_last(network, device)
    network.set_template(synthetic.landmarks)
    network.boxes.requires_grad_(False)
    logger.info("%d synthetic frames, %d held out, %d real", len(synthetic), len(held_out), len(real) if real else 0)
    sources = [(synthetic, batch_size)]
    if real is not None:
        made, filmed = split_count(batch_size, (1 - real_share, real_share))
        sources = [(synthetic, made), (real.to(device), filmed)]
    batches, reading_loss = BatchMaker(sources), ReadingLoss(device)

    def losses(step: int) -> Mapping[str, Tensor]:
        # Clips rendered meanwhile are taken up as they appear.
        fresh = load_frames(folder, every, seen=seen, device=device) if step % 200 == 199 else None
        if fresh is not None:
            synthetic.extend(fresh)
            batches.refresh()
        x, *labels = batches()
        network.boxes.eval()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            reading = network.forward_raw(x)
        return reading_loss(reading, *labels)

    def validate(module: FaceNetwork, step: int) -> dict[str, float]:
        numbers = evaluate(module, held_out)
        if pictures is not None:
            shown = held_out.batch(slice(None, None, max(1, len(held_out) // 12)))[0][:12]
            if looked_at is not None:
                shown = torch.cat([looked_at.to(device), shown])
            drawn_sheet(Path(pictures) / f"face_{step:06d}.png", shown, module(shown).landmarks)
        return numbers

    settings = LoopSettings(
        output=output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        weight_decay=1e-3,
        ema_decay=0.998,
        validate_every=validate_every,
        save_every=500,
        resume=resume,
        metadata={"mcdm_config": to_json(config), "component": "face_network"},
    )
    result = train(network, losses, settings, validate)
    network.set_template(synthetic.landmarks)
    save_state(settings.output, network.state_dict(), {**settings.metadata, "step": str(result.steps)})
    return result


@torch.no_grad()
def evaluate(network: FaceNetwork, held_out: LabelledFrames, batch_size: int = 64) -> dict[str, float]:
    """Mean landmark error in pixels of 128 (all, lips, lids), of pose in radians and of values, on held-out frames."""
    errors, poses, values = [], [], []
    for start in range(0, len(held_out), batch_size):
        x, landmarks, pose, truth = held_out.batch(slice(start, start + batch_size))
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
    for crop, points in zip(crops.cpu(), landmarks.cpu(), strict=True):
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
