"""The face network: landmarks, head pose and facial values of a face crop, and faces in whole pictures.

Landmarks come from heat maps with a soft-argmax. (Regressing coordinates from a flattened map learns far more slowly.)
Pose, values and confidence come from features pooled over the crop and sampled at eyes, mouth and brows. Faces in a
whole picture are found by a small fully convolutional net over an image pyramid. Then the crop is refined with the
landmarks until it stops moving. Lips, lids and brows may be read again, larger (``part_reader.py``). It serves
cropping, the warped reference, driver videos and the labels of real clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ...config import MCDMConfig
from ..crops import FACE_FRACTION
from ..landmarks import BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT, EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, LIPS
from .heat_maps import soft_argmax
from .part_reader import DETAIL_SIZE, PartReader

BOX_SIZE = 32.0
"""Width in pixels of the faces the box net looks for at one level of the pyramid."""
BOX_STRIDE = 8
_PYRAMID_STEP = 2.0**-0.5
_MAX_SIDE = 640
"""The search goes up to this size of a picture: a face below 4 % of it is of no use."""
_SAMPLED_GROUPS = (EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT, LIPS, BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT)


class FaceReading(NamedTuple):
    """What the network reads in a crop.

    Attributes:
        landmarks: ``[b, 68, 2]`` in [0, 1] of the crop.
        pose: ``[b, 6]`` yaw, pitch, roll (radians), x, y (crop widths), log-scale.
        values: ``[b, 16]`` about 0 at rest, 1 at full strength.
        confidence: ``[b]`` in [0, 1] that the crop holds a face, about where it should be.
        covered: ``[b, 3]`` in [0, 1] that mouth, eye at the left and eye at the right are covered; None if they are
            not read again.
    """

    landmarks: Tensor
    pose: Tensor
    values: Tensor
    confidence: Tensor
    covered: Tensor | None = None


@dataclass(frozen=True)
class FaceBox:
    """A face in a picture: its box in pixels (four numbers when iterated), the score in [0, 1], the landmarks.

    ``landmarks`` is ``[68, 2]`` in pixels of the picture. The canonical crop is the square around the box's centre of
    side ``width / FACE_FRACTION``.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float
    landmarks: Tensor | None = None

    def __iter__(self) -> Iterator[float]:
        return iter((self.left, self.top, self.right, self.bottom))

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return (self.left, self.top, self.right, self.bottom)[index]

    @property
    def square(self) -> tuple[float, float, float]:
        """Centre x, centre y and side of the canonical crop, in pixels."""
        side = max(self.right - self.left, self.bottom - self.top) / FACE_FRACTION
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2, side


def _unit(inputs: int, outputs: int, stride: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class BoxNetwork(nn.Module):
    """Fully convolutional: ``[b, 3, h, w]`` in [-1, 1] to ``[b, 4, h / 8, w / 8]``: logit, dx, dy, log-size a cell.

    dx and dy lead from the cell's centre to the face's, in units of ``BOX_SIZE``; log-size is ln(width / BOX_SIZE).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_unit(3, 16, 2, 5), _unit(16, 32, 2), _unit(32, 64, 2))
        self.body = nn.ModuleList([_unit(64, 64, 1) for _ in range(5)])
        self.head = nn.Conv2d(64, 4, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Score and box of every cell."""
        x = self.stem(picture)
        for block in self.body:
            x = x + block(x)
        return self.head(x)


class FaceNetwork(nn.Module):
    """Reads face crops (:meth:`forward`) and finds faces (:meth:`detect`).

    With ``part_channels`` in the configuration it holds a :class:`PartReader` in ``parts``, else None.
    """

    template: Tensor
    template_scale: Tensor

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        face = config.face_network
        a, b, c, d = face.channels
        self.input_size = face.input_size
        points, values = config.motion_codec.num_landmarks, config.motion_codec.num_values
        self.num_values = values
        self.level_a = nn.Sequential(_unit(3, a, 4, 5), _unit(a, 2 * a, 1))
        self.level_b = nn.Sequential(_unit(2 * a, c, 2), _unit(c, c, 1))
        self.level_c = nn.Sequential(_unit(c, d, 2), _unit(d, d, 1))
        self.level_d = nn.Sequential(_unit(d, d, 2), _unit(d, d, 1))
        self.up_c = _unit(2 * d, c, 1)
        self.up_b = _unit(2 * c, 64, 1)
        fused = 64 + 2 * a
        self.heat = nn.Conv2d(fused, points, 3, padding=1)
        self.pool = _unit(d, b, 1, 1)
        self.read = nn.Sequential(
            nn.Linear(b * 16 + fused * len(_SAMPLED_GROUPS) + 2 * points, 128),
            nn.ReLU(),
            nn.Linear(128, 6 + values + 1),
        )
        self.boxes = BoxNetwork()
        self.parts = PartReader(face.part_channels) if face.part_channels else None
        self.register_buffer("template", torch.zeros(points, 2))
        self.register_buffer("template_scale", torch.ones(()))

    @property
    def crop_size(self) -> int:
        """Side of the crops it reads best, in pixels: with the second reading, more than its own input size."""
        return self.input_size if self.parts is None else DETAIL_SIZE

    def forward(self, crop: Tensor, detail: Tensor | None = None) -> FaceReading:
        """Read crops.

        Args:
            crop: ``[b, 3, s, s]`` in [-1, 1] (resized to the network's 128 px if need be).
            detail: the same crops with more pixels for the second reading, if there are any.
        """
        landmarks, raw = self.forward_raw(crop)
        covered = None
        if self.parts is not None:
            landmarks, covered = self.parts(crop if detail is None else detail, landmarks)
        return FaceReading(landmarks, raw[:, :6], raw[:, 6:-1], raw[:, -1].sigmoid(), covered)

    def forward_raw(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks ``[b, 68, 2]`` and ``[b, 6 + 16 + 1]`` pose, values and the logit of the confidence."""
        if crop.shape[-1] != self.input_size or crop.shape[-2] != self.input_size:
            size = (self.input_size, self.input_size)
            crop = functional.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)
        a = self.level_a(crop)
        b = self.level_b(a)
        c = self.level_c(b)
        d = self.level_d(c)
        y = self.up_c(torch.cat([_double(d), c], 1))
        y = self.up_b(torch.cat([_double(y), b], 1))
        fused = torch.cat([_double(y), a], 1)
        landmarks = soft_argmax(self.heat(fused).float())
        spots = torch.stack([landmarks[:, group].mean(1) for group in _SAMPLED_GROUPS], 1).detach()
        grid = (spots * 2 - 1)[:, :, None]
        sampled = functional.grid_sample(fused.float(), grid, padding_mode="border", align_corners=False)
        sampled = sampled.flatten(1).to(fused.dtype)
        centred = (landmarks - landmarks.mean(1, keepdim=True)).flatten(1).detach().to(fused.dtype)
        features = torch.cat([self.pool(d).flatten(1), sampled, centred * 4.0], 1)
        return landmarks, self.read(features).float()

    @torch.no_grad()
    def set_template(self, landmarks: Tensor) -> None:
        """Learn the canonical framing from ``[n, 68, 2]`` landmarks of well-framed crops."""
        mean = landmarks.mean(0)
        self.template.copy_(mean)
        self.template_scale.copy_(_spread(landmarks).mean())

    def canonical_square(self, landmarks: Tensor) -> tuple[float, float, float]:
        """Centre x, y and side of the canonical crop of one face's landmarks ``[68, 2]``, in the landmarks' unit.

        The framing is that of the training frames: the same centre and spread of the face's points (lips, lids and
        face; not the neck). So an open mouth or a turned head hardly move it.
        """
        x, y, side = self.canonical_squares(landmarks[None])[0].tolist()
        return x, y, side

    def canonical_squares(self, landmarks: Tensor) -> Tensor:
        """:meth:`canonical_square` of many faces: ``[n, 68, 2]`` to ``[n, 3]``, on the landmarks' device."""
        side = _spread(landmarks)[:, None] / self.template_scale.to(landmarks)
        offset = (0.5 - self.template[:64].mean(0).to(landmarks)) * side
        return torch.cat([landmarks[:, :64].mean(1) + offset, side], 1)

    @torch.no_grad()
    def refine(
        self, image: Tensor, square: tuple[float, float, float], steps: int = 4, *, twice: bool = True
    ) -> tuple[tuple[float, float, float], Tensor, float]:
        """Move a square onto the face by reading it again until it is stable.

        Args:
            image: ``[3, h, w]`` in [-1, 1].
            square: centre x, centre y and side in pixels.
            steps: the most readings.
            twice: read lips, lids and brows again, which moves the landmarks alone.

        Returns:
            The canonical square, landmarks ``[68, 2]`` in pixels of the image, and the confidence.
        """
        seen, read = square, torch.zeros(1, 68, 2)
        landmarks, confidence = torch.zeros(68, 2), 0.0
        for step in range(steps):
            seen = square
            read, raw = self.forward_raw(crop_square(image, seen, self.input_size)[None])
            landmarks = _placed(read[0], seen)
            confidence = float(raw[0, -1].sigmoid())
            # The framing is that of the first reading, with which the models were trained.
            moved = self.canonical_square(landmarks)
            shift = math.hypot(moved[0] - square[0], moved[1] - square[1]) / square[2]
            growth = abs(math.log(max(moved[2], 1e-3) / square[2]))
            square = moved if step + 1 < steps else square
            if shift < 0.01 and growth < 0.015:
                break
        if twice and self.parts is not None:
            landmarks = _placed(self.parts(crop_square(image, seen, self.crop_size)[None], read).landmarks[0], seen)
        return square, landmarks, confidence

    @torch.no_grad()
    def detect(
        self,
        image: Tensor,
        threshold: float = 0.6,
        max_faces: int = 8,
        refine: bool = True,
        twice: bool = True,
    ) -> list[FaceBox]:
        """Faces of a whole picture, largest first.

        Args:
            image: ``[3, h, w]`` or ``[1, 3, h, w]`` in [-1, 1], any size.
            threshold: least score of a face.
            max_faces: candidates that are refined.
            refine: read landmarks and move each box onto its face (else the box net's own boxes are returned).
            twice: see :meth:`refine`; who asks for boxes alone spares a quarter of the time.

        Returns:
            ``FaceBox`` objects in pixels of the image; an empty list if there is no face.
        """
        image = image[0] if image.dim() == 4 else image
        height, width = image.shape[-2:]
        shrink = min(1.0, _MAX_SIDE / max(height, width))
        small = _resize(image, shrink) if shrink < 1.0 else image
        candidates = _suppress(self._candidates(small), 0.3)[:max_faces]
        faces: list[FaceBox] = []
        for x, y, size, score in candidates:
            x, y, size = x / shrink, y / shrink, size / shrink
            if score < threshold or any(_inside(x, y, face) for face in faces):
                continue
            if not refine:
                faces.append(FaceBox(x - size / 2, y - size / 2, x + size / 2, y + size / 2, score))
                continue
            square, landmarks, confidence = self.refine(image, (x, y, size / FACE_FRACTION), twice=twice)
            total = math.sqrt(score * confidence)
            if total >= threshold and 0.4 < square[2] * FACE_FRACTION / size < 2.5:
                half = square[2] * FACE_FRACTION / 2
                left, top, right, bottom = square[0] - half, square[1] - half, square[0] + half, square[1] + half
                faces.append(FaceBox(left, top, right, bottom, total, landmarks))
        faces.sort(key=lambda face: face.score, reverse=True)
        kept: list[FaceBox] = []
        for face in faces:
            if all(_overlap(tuple(face), tuple(other)) < 0.3 for other in kept):
                kept.append(face)
        return sorted(kept, key=lambda face: face.right - face.left, reverse=True)

    def _candidates(self, image: Tensor) -> list[tuple[float, float, float, float]]:
        """Centre x, y, width and score of likely faces of a picture, over its pyramid."""
        height, width = image.shape[-2:]
        scale = min(1.5, _MAX_SIDE / max(height, width))
        found: list[tuple[float, float, float, float]] = []
        while min(height, width) * scale >= 0.7 * BOX_SIZE:
            level = _resize(image, scale)
            border = int(BOX_SIZE)
            down, right = (-level.shape[-2]) % BOX_STRIDE, (-level.shape[-1]) % BOX_STRIDE
            padded = functional.pad(level[None], (border, border + right, border, border + down), mode="replicate")
            output = self.boxes(padded)[0].float().cpu()
            score = output[0].sigmoid()
            peak = functional.max_pool2d(score[None, None], 3, stride=1, padding=1)[0, 0]
            for row, column in ((score == peak) & (score > 0.2)).nonzero().tolist():
                logsize = float(output[3, row, column].clamp(-0.7, 0.7))
                x = (column + 0.5) * BOX_STRIDE - border + float(output[1, row, column]) * BOX_SIZE
                y = (row + 0.5) * BOX_STRIDE - border + float(output[2, row, column]) * BOX_SIZE
                size = BOX_SIZE * math.exp(logsize)
                found.append((x / scale, y / scale, size / scale, float(score[row, column])))
            scale *= _PYRAMID_STEP
        return sorted(found, key=lambda face: face[3], reverse=True)


def crop_square(image: Tensor, square: tuple[float, float, float], size: int) -> Tensor:
    """Cut the square (centre x, y, side in pixels) out of ``[3, h, w]`` as ``[3, size, size]``, edges repeated.

    Shrinking averages first, so that a large picture does not alias.
    """
    x, y, side = square
    shrink = size / side
    if shrink < 0.75:
        # Cut generously, shrink with a filter, then sample exactly.
        left, top = max(0, int(x - side)), max(0, int(y - side))
        cut = image[:, top : int(y + side) + 1, left : int(x + side) + 1]
        if min(cut.shape[-2:]) < 2:
            cut, left, top = image, 0, 0
        small = _resize(cut, shrink)
        ratio_x, ratio_y = small.shape[-1] / cut.shape[-1], small.shape[-2] / cut.shape[-2]
        image, x, y, side_x, side_y = small, (x - left) * ratio_x, (y - top) * ratio_y, side * ratio_x, side * ratio_y
    else:
        side_x = side_y = side
    height, width = image.shape[-2:]
    steps = (torch.arange(size, device=image.device, dtype=torch.float32) + 0.5) / size - 0.5
    xs, ys = (x + steps * side_x) / width * 2 - 1, (y + steps * side_y) / height * 2 - 1
    grid = torch.stack([xs[None].expand(size, -1), ys[:, None].expand(-1, size)], -1)
    return functional.grid_sample(image[None].float(), grid[None], padding_mode="border", align_corners=False)[0]


def _placed(landmarks: Tensor, square: tuple[float, float, float]) -> Tensor:
    """Landmarks in [0, 1] of a square in the pixels of its picture, on the CPU."""
    return landmarks.cpu() * square[2] + torch.tensor([square[0] - square[2] / 2, square[1] - square[2] / 2])


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _resize(image: Tensor, scale: float) -> Tensor:
    size = (max(2, round(image.shape[-2] * scale)), max(2, round(image.shape[-1] * scale)))
    whole = image[None].float()
    return functional.interpolate(whole, size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def _spread(landmarks: Tensor) -> Tensor:
    """Root mean square distance of the face's points from their centre: ``[n, 68, 2] -> [n]``."""
    points = landmarks[:, :64]
    return (points - points.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
    return wide * high / max(union, 1e-9)


def _inside(x: float, y: float, face: FaceBox) -> bool:
    return face.left < x < face.right and face.top < y < face.bottom


def _suppress(faces: list[tuple[float, float, float, float]], limit: float) -> list[tuple[float, float, float, float]]:
    """Keep the best of overlapping candidates (centre x, y, width, score; best first)."""

    def box(face: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        half = face[2] / 2
        return face[0] - half, face[1] - half, face[0] + half, face[1] + half

    kept: list[tuple[float, float, float, float]] = []
    for face in faces:
        if all(_overlap(box(face), box(other)) < limit for other in kept):
            kept.append(face)
    return kept
