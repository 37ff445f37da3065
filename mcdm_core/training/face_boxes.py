"""Training of the box net: faces of every size pasted over backgrounds, some of the wrong size for the level.

The net looks at one level of an image pyramid for faces about 32 px wide; smaller and larger ones belong to other
levels, so they are shown as background too (those in between are left out of the loss).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import MCDMConfig, to_json
from ..data.real_stills import list_stills, read_still
from ..data.real_video import list_clips, read_clip
from ..errors import MediaError
from ..media.pixels import frames_to_unit
from ..models.face_network import BOX_SIZE, BOX_STRIDE, FACE_FRACTION, FaceNetwork
from .face_network import load_frames
from .loop import LoopSettings, TrainResult, save_state, train

logger = logging.getLogger(__name__)

CANVAS = 160
_FULL, _NEAR = 0.45, 0.75
"""Largest |ln(width / 32)| of a face that is this level's, and of one that is left out of the loss."""


@dataclass(frozen=True)
class KnownFace:
    """A picture ``[h, w, 3]`` uint8 with one face: the canonical square's centre x, y and side in pixels."""

    picture: NDArray[np.uint8]
    square: tuple[float, float, float]


def procedural_background(random: np.random.Generator, size: int = CANVAS) -> NDArray[np.uint8]:
    """A picture without a face: smooth colours, stripes, blobs, edges and noise."""
    coarse = int(random.integers(2, 12))
    field = random.uniform(0, 255, (coarse, coarse, 3)).astype(np.float32)
    how = cv2.INTER_CUBIC if random.random() < 0.7 else cv2.INTER_NEAREST
    picture = cv2.resize(field, (size, size), interpolation=how)
    base = random.uniform(0, 255, 3)
    picture = base + (picture - picture.mean()) * random.uniform(0.05, 1.0)
    for _ in range(int(random.integers(0, 9))):
        colour = random.uniform(0, 255, 3).tolist()
        a, b = random.integers(-20, size + 20, (2, 2)).tolist()
        kind = random.random()
        if kind < 0.35:
            cv2.rectangle(picture, a, b, colour, -1)
        elif kind < 0.75:
            axes = random.integers(4, 60, 2).tolist()
            cv2.ellipse(picture, a, axes, float(random.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.line(picture, a, b, colour, int(random.integers(1, 9)))
    if random.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(random.uniform(0.5, 4)))
    return np.clip(picture + random.normal(0, random.uniform(0, 12), picture.shape), 0, 255).astype(np.uint8)


def background(
    faces: Sequence[KnownFace], scenes: Sequence[NDArray[np.uint8]], random: np.random.Generator
) -> NDArray[np.uint8]:
    """A canvas to paste on: a part of a scene, a procedural one, or an enlarged part of a face's surroundings."""
    kind = random.random()
    if scenes and kind < 0.4:
        scene = scenes[int(random.integers(len(scenes)))]
        side = int(random.uniform(0.25, 1.0) * min(scene.shape[:2]))
        top, left = (int(random.integers(0, n - side + 1)) for n in scene.shape[:2])
        return _turned(cv2.resize(scene[top : top + side, left : left + side], (CANVAS, CANVAS)), random)
    if kind < 0.65:
        # A detail of a face, much enlarged (an eye, an ear, hair, cloth), is no face of this level.
        face = faces[int(random.integers(len(faces)))]
        side = max(8, int(face.square[2] * random.uniform(0.1, 0.22)))
        height, width = face.picture.shape[:2]
        top, left = int(random.integers(0, max(1, height - side))), int(random.integers(0, max(1, width - side)))
        return _turned(cv2.resize(face.picture[top : top + side, left : left + side], (CANVAS, CANVAS)), random)
    return procedural_background(random)


def _turned(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    picture = np.rot90(picture, int(random.integers(4)))
    return np.ascontiguousarray(picture[:, ::-1] if random.random() < 0.5 else picture)


def paste_face(canvas: NDArray[np.uint8], face: KnownFace, random: np.random.Generator) -> tuple[float, float, float]:
    """Lay a face onto the canvas (in place); returns its centre x, y and width in pixels of the canvas."""
    if random.random() < 0.72:
        width = BOX_SIZE * math.exp(random.uniform(-_FULL, _FULL))
    else:
        width = BOX_SIZE * math.exp(random.uniform(0.8, 1.7) * (1 if random.random() < 0.5 else -0.7))
    source_x, source_y, side = face.square
    scale = width / (side * FACE_FRACTION)
    angle = float(random.normal(0, 12) if random.random() < 0.8 else random.uniform(-40, 40))
    x, y = random.uniform(0.05, 0.95, 2) * CANVAS
    picture = face.picture
    if scale < 0.5:
        picture = cv2.resize(picture, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        ratio = picture.shape[1] / face.picture.shape[1]
        source_x, source_y, scale = source_x * ratio, source_y * ratio, scale / ratio
    matrix = cv2.getRotationMatrix2D((source_x, source_y), angle, scale)
    if random.random() < 0.5:
        flip = np.array([[-1, 0, 2 * source_x], [0, 1, 0], [0, 0, 1]], np.float64)
        matrix = matrix @ flip
    matrix[:, 2] += np.array([x, y]) - (source_x, source_y)
    height, across = picture.shape[:2]
    mask = np.full((height, across), 255, np.uint8)
    if random.random() < 0.45:
        mask[:] = 0
        radius = width / scale
        axes = (int(radius * random.uniform(0.55, 0.8)), int(radius * random.uniform(0.7, 0.95)))
        cv2.ellipse(mask, (int(source_x), int(source_y)), axes, 0, 0, 360, 255, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.0 + 2.0 * random.random())
    alpha = cv2.warpAffine(mask, matrix, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR)[..., None] / 255.0
    layer = cv2.warpAffine(picture, matrix, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    canvas[:] = (canvas * (1 - alpha) + layer * alpha).astype(np.uint8)
    return float(x), float(y), width


def scene_with_faces(
    faces: Sequence[KnownFace], scenes: Sequence[NDArray[np.uint8]], random: np.random.Generator
) -> tuple[NDArray[np.uint8], list[tuple[float, float, float]]]:
    """A canvas ``[160, 160, 3]`` with no to three faces (centre x, y, width); later ones never cover earlier ones."""
    canvas = background(faces, scenes, random).copy()
    placed: list[tuple[float, float, float]] = []
    for _ in range(int(random.choice(4, p=[0.15, 0.5, 0.25, 0.1]))):
        before = canvas.copy()
        new = paste_face(canvas, faces[int(random.integers(len(faces)))], random)
        if any(math.hypot(new[0] - old[0], new[1] - old[1]) < 0.9 * (new[2] + old[2]) for old in placed):
            canvas = before
        else:
            placed.append(new)
    gain, offset = random.normal(1.0, 0.2, 3), random.normal(0, 20, 3)
    if random.random() < 0.2:
        canvas = np.repeat(canvas.mean(2, keepdims=True), 3, 2)
    noisy = canvas * gain + offset + random.normal(0, random.uniform(0, 14), canvas.shape)
    if random.random() < 0.3:
        noisy = cv2.GaussianBlur(noisy, (0, 0), float(random.uniform(0.4, 1.3)))
    return np.clip(noisy, 0, 255).astype(np.uint8), placed


def cell_targets(placed: Sequence[tuple[float, float, float]], cells: int = CANVAS // BOX_STRIDE) -> Tensor:
    """``[5, cells, cells]``: presence (1, 0, or -1 where it does not count), dx, dy, log-size, and 1 where a box is."""
    target = torch.zeros(5, cells, cells)
    steps = (torch.arange(cells) + 0.5) * BOX_STRIDE
    for x, y, width in placed:
        size = math.log(width / BOX_SIZE)
        distance = torch.hypot(steps[None] - x, steps[:, None] - y)
        if abs(size) <= _NEAR:
            target[0][(distance < 0.5 * width) & (target[0] == 0)] = -1.0
        if abs(size) <= _FULL:
            core = distance <= max(0.2 * width, BOX_STRIDE * 0.71)
            target[0][core] = 1.0
            target[1][core] = ((x - steps[None]) / BOX_SIZE).expand(cells, cells)[core]
            target[2][core] = ((y - steps[:, None]) / BOX_SIZE).expand(cells, cells)[core]
            target[3][core] = size
            target[4][core] = 1.0
    return target


def box_losses(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Focal cross-entropy of presence (gamma 2) and smooth L1 of the boxes; ``[b, 4, s, s]`` and ``[b, 5, s, s]``."""
    logit, presence = output[:, 0], target[:, 0]
    counts = (presence >= 0).float()
    truth = presence.clamp_min(0)
    entropy = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    focus = (truth - logit.sigmoid()).abs().square()
    weight = torch.where(truth > 0, 2.0, 1.0)
    number = target[:, 4].sum().clamp_min(1)
    score = (entropy * focus * weight * counts).sum() / number
    error = functional.smooth_l1_loss(output[:, 1:], target[:, 1:4], beta=0.1, reduction="none").sum(1)
    place = (error * target[:, 4]).sum() / number
    return {"loss": score + place, "score": score, "place": place}


def gather_faces(
    network: FaceNetwork, data_root: Path | None, stills: Path | None = None, videos: Path | None = None
) -> list[KnownFace]:
    """Known faces from synthetic shards (``train``), from portraits cut around heads and from talking clips likewise.

    The network's own landmarks say where the face is in the real ones; those it is not sure of are left out.

    Raises:
        MediaError: if nothing was found at all.
    """
    network.eval()
    pictures = [] if stills is None else [read_still(path) for path in list_stills(stills, 40)[0]]
    if videos is not None:
        paths = list_clips(videos)[0]
        pictures += [read_clip(path, 40, with_audio=False).frames[0] for path in paths[:: max(1, len(paths) // 60)]]
    faces = []
    for picture in pictures:
        height, width = picture.shape[:2]
        image = frames_to_unit(picture)
        square, _, confidence = network.refine(image, (0.5 * width, 0.5 * height, 0.8 * height))
        if confidence > 0.5 and 0.45 < square[2] / height < 1.15:
            faces.append(KnownFace(picture, square))
    synthetic = load_frames(Path(data_root) / "train", every=25) if data_root is not None else None
    if synthetic is not None:
        frames = synthetic.frames.permute(0, 2, 3, 1).contiguous().numpy()
        for frame, points in zip(frames, synthetic.landmarks, strict=True):
            faces.append(KnownFace(frame, network.canonical_square(points * frame.shape[0])))
    if not faces:
        raise MediaError("There are no faces to train the box net on; give synthetic shards, portraits or videos.")
    logger.info("%d known faces", len(faces))
    return faces


def train_face_boxes(
    network: FaceNetwork,
    faces: Sequence[KnownFace],
    scenes: Sequence[NDArray[np.uint8]],
    output: Path,
    config: MCDMConfig,
    minutes: float | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    resume: bool = True,
    seed: int = 0,
) -> TrainResult:
    """Train ``network.boxes`` alone and save the whole network to ``output``.

    Args:
        network: with its landmarks trained.
        faces: pictures with one known face each; scenes: pictures that hold no face.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)

    def losses(step: int) -> Mapping[str, Tensor]:
        made = [scene_with_faces(faces, scenes, random) for _ in range(batch_size)]
        x = frames_to_unit(np.stack([picture for picture, _ in made]))
        targets = torch.stack([cell_targets(placed) for _, placed in made])
        return box_losses(network.boxes(x.contiguous(memory_format=torch.channels_last)).float(), targets)

    boxes: nn.Module = network.boxes.requires_grad_(True)
    settings = LoopSettings(
        output=Path(output).with_name("face_boxes.safetensors"), steps=steps, minutes=minutes,
        learning_rate=learning_rate, ema_decay=0.995, save_every=500, validate_every=10**9, resume=resume,
    )  # fmt: skip
    result = train(boxes, losses, settings)
    network.eval()
    save_state(output, network.state_dict(), {"mcdm_config": to_json(config), "component": "face_network"})
    return result
