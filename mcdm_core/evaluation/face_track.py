"""Facial motion read back from a finished video by the face network, and its agreement with what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..face.crops import CropTransform, resample_crop
from ..face.landmarks import lip_opening
from ..face.reading.face_network import FaceNetwork


@dataclass(frozen=True)
class FaceTrack:
    """What is seen in N frames: landmarks [N, 68, 2] of the crop, pose [N, 6], values [N, 16], lip opening [N]."""

    landmarks: Tensor
    pose: Tensor
    values: Tensor
    lip_opening: Tensor


@torch.no_grad()
def track_face(
    network: FaceNetwork, frames: Iterable[Tensor], transform: CropTransform | None = None, batch: int = 32
) -> FaceTrack:
    """Read every frame of a video.

    Args:
        network: the face network.
        frames: pictures [3, h, w] in [0, 1]: face crops, or whole pictures if ``transform`` is given.
        transform: where the face crop lies in every picture (the pipeline keeps it fixed).
        batch: frames read at a time; memory does not grow with the video.
    """
    device = next(network.parameters()).device
    landmarks, poses, values = [], [], []
    for chunk in _chunks(_crops(frames, transform, network.input_size), batch):
        reading = network((torch.stack(chunk) * 2 - 1).to(device))
        landmarks.append(reading.landmarks.cpu())
        poses.append(reading.pose.cpu())
        values.append(reading.values.cpu())
    points = torch.cat(landmarks)
    return FaceTrack(points, torch.cat(poses), torch.cat(values), lip_opening(points))


def _crops(frames: Iterable[Tensor], transform: CropTransform | None, size: int) -> Iterator[Tensor]:
    for frame in frames:
        if transform is not None:
            yield resample_crop(frame, transform, size)
        else:
            yield torch.nn.functional.interpolate(frame[None], size=(size, size), mode="bilinear", antialias=True)[0]


def _chunks(items: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
