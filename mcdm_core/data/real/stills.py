"""Portrait photographs as training material: reading, labelling, and clips of one still for the shards.

A folder of pictures cut around heads is read as it is. :func:`still_clip` turns one labelled portrait into a short clip
by a slow virtual camera (shift, zoom, turn). The landmarks move along.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...face.reading.face_network import FaceNetwork
from ..shards import INFO_FIELDS
from .files import list_files
from .labelling import write_labelled
from .video import FPS, Teacher, face_square, fit_audio, label_frames, labelled_by

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SOURCE = "still"
"""Source named in the metadata of clips made of stills; they have no speech."""


def list_stills(folder: Path, keep_apart: int = 0) -> tuple[list[Path], list[Path]]:
    """Pictures of a folder by sorted name, the last ``keep_apart`` as the second list (validation).

    Raises:
        MediaError: if there are none.
    """
    return list_files(folder, SUFFIXES, "pictures", keep_apart)


def read_still(path: Path) -> NDArray[np.uint8]:
    """One picture as ``[h, w, 3]`` uint8 RGB.

    Raises:
        MediaError: if it cannot be decoded.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MediaError(f"{path} cannot be decoded as a picture; delete it or convert it to JPEG or PNG.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def still_clip(
    picture: NDArray[np.uint8],
    square: tuple[float, float, float],
    landmarks: NDArray[np.float32],
    pose: NDArray[np.float32],
    values: NDArray[np.float32],
    frames: int,
    random: np.random.Generator,
    size: int = 128,
) -> dict[str, NDArray]:
    """A clip of one portrait under a slow virtual camera; the face itself does not move.

    Args:
        picture: ``[h, w, 3]`` uint8 RGB.
        square: canonical crop: centre x, y and side in pixels.
        landmarks: ``[68, 2]`` in [0, 1] of that crop; pose ``[6]`` and values ``[16]`` likewise.
        frames: length; the first frame is the plain crop for a single one.
        random: where the camera's path comes from.

    Returns:
        ``frames``, ``landmarks``, ``pose``, ``values`` and silent ``audio`` at 25 frames a second, as a shard has them.
    """
    time = np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1)
    phases, speeds = random.uniform(0, 2 * np.pi, 4), random.uniform(0.6, 1.6, 4)
    limits = np.array([0.035, 0.03, 0.06, 0.1]) * random.uniform(0.2, 1.0, 4)
    path = np.sin(2 * np.pi * speeds * time[:, None] + phases) * limits if frames > 1 else np.zeros((1, 4))
    made: dict[str, list[NDArray]] = {key: [] for key in ("frames", "landmarks", "pose", "values")}
    x, y, side = square
    for shift_x, shift_y, zoom, angle in path:
        scale = size / side * float(np.exp(zoom))
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        turn = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([0.5 + shift_x, 0.5 + shift_y]) * size
        matrix = np.concatenate([turn, (centre - turn @ np.array([x, y]))[:, None]], 1)
        # warpAffine places pixel centres at whole numbers, the landmarks have them at halves.
        shifted = matrix.copy()
        shifted[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        frame = cv2.warpAffine(picture, shifted, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        relative = (turn * side / size) @ np.concatenate([landmarks, pose[None, 3:5] + 0.5]).T.astype(np.float64)
        # Points of the canonical crop turn about its centre, which lands at ``centre``.
        about = relative - ((turn * side / size) @ np.array([0.5, 0.5]))[:, None] + (centre / size)[:, None]
        moved = about.T.astype(np.float32)
        new_pose = pose.copy()
        new_pose[2] += angle
        new_pose[3:5] = moved[-1] - 0.5
        new_pose[5] += zoom
        made["frames"].append(frame)
        made["landmarks"].append(moved[:-1])
        made["pose"].append(new_pose)
        made["values"].append(values)
    clip = {key: np.stack(parts) for key, parts in made.items()}
    clip["audio"] = fit_audio(np.zeros(0, np.int16), frames, FPS)
    return clip


def write_still_shards(
    network: FaceNetwork,
    paths: Sequence[Path],
    output: Path,
    split: str,
    frames: int = 8,
    clips_per_shard: int = 40,
    head_cut: bool = False,
    licence: str = "unknown",
    identity: str = "",
    seed: int = 0,
    resume: bool = True,
    size: int = 128,
    teacher: Teacher | None = None,
) -> int:
    """Label portraits and write each as a short clip under a slow camera; returns the number of clips there.

    Args:
        frames: length of a clip; head_cut: the pictures are already cut around the head, so no search is needed.
        licence: noted with every clip, and identity, by default the file's name.
        seed: with the file's name it decides the camera's path, so that a resumed run gives the same clips.
        size: side of the stored crops; teacher: as in :func:`~mcdm_core.data.real.video.label_frames`.
        resume: keep the shards that are already there. Pictures without a face are passed over with a warning.

    Raises:
        MediaError: if none of the pictures could be used.
    """
    network.eval()

    def label(path: Path, index: int) -> tuple[dict[str, NDArray], dict[str, object]]:
        picture = read_still(path)
        height, width = picture.shape[:2]
        guess = (0.5 * width, 0.5 * height, 0.75 * min(width, height)) if head_cut else None
        square = face_square(network, picture[None], guess=guess)
        labels = label_frames(network, picture[None], square, size, teacher)
        random = np.random.default_rng([seed, zlib.crc32(path.name.encode())])
        clip = still_clip(
            picture, square, labels["landmarks"][0], labels["pose"][0], labels["values"][0], frames, random, size
        )
        info: dict[str, object] = dict.fromkeys(INFO_FIELDS, "")
        info.update(
            source=SOURCE,
            identity=identity or path.stem,
            fps=FPS,
            split=split,
            licence=licence,
            seed=seed,
            index=index,
            labels=labelled_by(teacher),
        )
        return clip, info

    return write_labelled(label, paths, output, split, clips_per_shard, resume)
