"""Training of the second reading of lips, lids and brows (``face/reading/part_reader.py``).

The shards' labels have to be truer than the face network's own: rendered faces know theirs, real ones are labelled by
a teacher (``label-data --teacher``). The first folder is the rendered one.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...config import TINY, MCDMConfig, to_json
from ...errors import MediaError
from ...face.reading.part_reader import EYE, MOUTH, PartNetwork, PartReader, Window
from ...media.pixels import to_unit
from ..channels_last import channels_last
from ..loop import LoopSettings, TrainResult, train
from .augmentation import hide, spoil
from .reader_augmentation import (
    block_artefacts,
    cover,
    covered_points,
    move_windows,
    plain_homography,
    random_homography,
)
from .reader_data import EYE_CORNERS, MARGIN, MOUTH_CORNERS, PartWindows, drawn_batch, gap, load_parts, mirrored_mouths

logger = logging.getLogger(__name__)

PART_CHANNELS = (32, 64, 96, 128)
"""Widths of the networks that ship."""
COMPONENT = "part_reader"
CLEAN_SHARE = 0.25
"""Part of the windows that are moved and covered but not spoilt, so that sharp pictures are read sharply."""
CLOSED = 0.02
"""Opening below which a mouth counts as closed."""


class PartLoss:
    """Losses of one part, in units of the face's size: points, gaps and corners as absolute errors, covers.

    Absolute errors lead to the median, which a few wrong labels do not move. Wide gaps weigh more, as they are rare
    and a cautious network reads them too small.
    """

    def __init__(self, gaps: Sequence[tuple[int, int]], corners: Sequence[int]) -> None:
        self.gaps, self.corners = tuple(gaps), list(corners)

    def __call__(
        self, read: Tensor, cover_logit: Tensor, points: Tensor, scale: Tensor, hidden: Tensor
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            read, points: ``[n, k, 2]`` in [0, 1]; cover_logit: ``[n]``.
            scale: ``[n]``, the face's size in window widths; hidden: ``[n, k]``, how far a point is covered.
        """
        seen = 1 - 0.8 * hidden
        error = ((read - points).abs().sum(-1) / scale[:, None]) * seen
        upper, lower = torch.tensor(self.gaps, device=read.device).unbind(1)
        true_gap = (points[:, upper] - points[:, lower]) / scale[:, None, None]
        gap_error = ((read[:, upper] - read[:, lower]) / scale[:, None, None] - true_gap).abs().sum(-1)
        gap_error = gap_error * seen[:, upper] * (1 + 4 * true_gap.norm(dim=-1))
        covers = functional.binary_cross_entropy_with_logits(cover_logit, (hidden.mean(1) > 0.5).float())
        positions, distances, corners = error.mean(), gap_error.mean(), error[:, self.corners].mean()
        loss = positions + distances + 0.3 * corners + 0.01 * covers
        return {"loss": loss, "points": positions, "gaps": distances, "corners": corners, "cover": covers}


def augmented(windows: Tensor, points: Tensor, scale: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows ``[n, 3, size, size]`` with points, the face's size in them, and how far each point is covered."""
    homography = random_homography(len(windows), 1 / MARGIN, device=windows.device)
    moved, points = move_windows(windows, points, homography, size)
    moved, area = cover(moved)
    clean = torch.rand(len(moved), 1, 1, 1, device=moved.device) < CLEAN_SHARE
    spoilt = torch.where(clean, moved, block_artefacts(spoil(hide(moved))))
    grown = scale / homography[:, :2, :2].det().abs().sqrt()
    return spoilt.contiguous(memory_format=torch.channels_last), points, grown, covered_points(area, points)


def train_part_reader(
    folders: Sequence[Path],
    output: Path,
    minutes: float | None = None,
    steps: int | None = None,
    held: Mapping[str, Path] | None = None,
    shares: Sequence[float] | None = None,
    every: Sequence[int] | None = None,
    batch: int = 48,
    eyes: int = 32,
    learning_rate: float = 2.5e-3,
    config: MCDMConfig = TINY,
    channels: tuple[int, ...] = PART_CHANNELS,
    bfloat16: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
    resume: bool = True,
    validate_every: int = 500,
) -> TrainResult:
    """Train both networks on the shards of some folders.

    Args:
        folders: of shards with true points; shares: of each in a batch, equal by default.
        output: weights file, a plain state dict of :class:`PartReader`.
        held: folders that are measured on, by name.
        every: how manieth frame of each folder is used; by default every sixth.
        batch, eyes: windows of mouths and of eyes in a batch.

    Raises:
        MediaError: if a folder has no shards.
    """
    torch.manual_seed(seed)
    every = every or [6] * len(folders)
    sources = [_loaded(folder, step, device) for folder, step in zip(folders, every, strict=True)]
    measured = {name: _loaded(folder, 5, device) for name, folder in (held or {}).items()}
    shares = shares or [1.0] * len(sources)
    mouths, lids = [source[0] for source in sources], [source[1] for source in sources]
    logger.info("windows of %s: %s", COMPONENT, ", ".join(str(len(source)) for source in mouths))
    reader = channels_last(PartReader(channels), device)
    mouth_loss = PartLoss(mouths[0].gaps, MOUTH_CORNERS)
    eye_loss = PartLoss(lids[0].gaps, EYE_CORNERS)
    device = torch.device(device)

    def read(
        network: PartNetwork, loss: PartLoss, window: Window, drawn: tuple[Tensor, Tensor, Tensor]
    ) -> dict[str, Tensor]:
        windows, *labels = augmented(*drawn, window.size)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            found = network(windows)
        return loss(*found, *labels)

    def losses(step: int) -> Mapping[str, Tensor]:
        windows, points, scale = drawn_batch(mouths, shares, batch)
        mouth = read(reader.lips, mouth_loss, MOUTH, (*mirrored_mouths(windows, points), scale))
        eye = read(reader.eye, eye_loss, EYE, drawn_batch(lids, shares, eyes))
        named = {f"{name}_{key}": value for name, part in (("lip", mouth), ("eye", eye)) for key, value in part.items()}
        return {"loss": mouth["loss"] + eye["loss"], **named}

    def validate(module: PartReader, step: int) -> dict[str, float]:
        return {
            f"{name}_{part}_{key}": value
            for name, pair in measured.items()
            for part, network, windows, size in (
                ("lip", module.lips, pair[0], MOUTH.size),
                ("eye", module.eye, pair[1], EYE.size),
            )
            for key, value in measure(network, windows, size).items()
        }

    face = dataclasses.replace(config.face_network, part_channels=channels)
    settings = LoopSettings(
        output=output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        weight_decay=1e-3,
        ema_decay=0.995,
        validate_every=validate_every,
        save_every=250,
        resume=resume,
        metadata={"mcdm_config": to_json(dataclasses.replace(config, face_network=face)), "component": COMPONENT},
    )
    return train(reader, losses, settings, validate)


def _loaded(folder: Path, every: int, device: torch.device | str) -> tuple[PartWindows, PartWindows]:
    windows = load_parts(Path(folder), every, device)
    if windows is None:
        raise MediaError(f"{folder} has no shards (*.safetensors); make them with render-data or label-data.")
    return windows


@torch.no_grad()
def measure(network: PartNetwork, held: PartWindows, size: int, chunk: int = 128) -> dict[str, float]:
    """Mean error of the points in 1/36 of the face's size, which is a pixel of the 128-px crop. Also r and slope of the
    gap, and the mean gap read where the labels say closed."""
    read, true = [], []
    for start in range(0, len(held), chunk):
        rows = slice(start, start + chunk)
        plain = plain_homography(len(held.windows[rows]), 1 / MARGIN, held.windows.device)
        windows, points = move_windows(to_unit(held.windows[rows]), held.points[rows], plain, size)
        read.append(network(windows)[0])
        true.append(points)
    points, labels = torch.cat(read), torch.cat(true)
    scale = held.scale * MARGIN
    found, wanted = gap(points, held.gaps) / scale, gap(labels, held.gaps) / scale
    pair = torch.stack([wanted, found])
    covariance = torch.cov(pair)
    closed = wanted < CLOSED
    return {
        "pixels": float(((points - labels).norm(dim=-1) / scale[:, None]).mean() * 36),
        "r": float(covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()),
        "slope": float(covariance[0, 1] / covariance[0, 0]),
        "closed": float(found[closed].mean()) if closed.any() else float("nan"),
    }
