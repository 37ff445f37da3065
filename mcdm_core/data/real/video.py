"""Real talking video as training material: reading clips, labelling them with the face network, writing shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import FaceNotFoundError, MediaError, reason
from ...face.landmarks import mirror_landmarks, mirror_pose, mirror_values
from ...face.reading.face_network import FaceNetwork, crop_square
from ...media.pixels import frames_to_unit, unit_to_frames
from ..shards import INFO_FIELDS, SAMPLE_RATE
from .files import list_files
from .labelling import BY_FACE_NETWORK, write_labelled

if TYPE_CHECKING:
    from av import AudioFrame

SUFFIXES = (".mp4", ".mpg", ".mkv", ".mov", ".webm")
FPS = 25
"""Rate of the labelled clips."""
MAX_SECONDS = 60
"""A clip is decoded whole; longer ones would fill the memory."""


Teacher = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Frames ``[t, h, w, 3]`` to landmarks ``[t, 68, 2]`` in their pixels, nan where it knows none (``teacher.py``)."""


@dataclass(frozen=True)
class RealClip:
    """Frames ``[t, h, w, 3]`` uint8 RGB, sound int16 ``[s]`` at 16 kHz (mono), frames a second, and the name."""

    name: str
    frames: NDArray[np.uint8]
    audio: NDArray[np.int16]
    fps: float


def list_clips(folder: Path, keep_apart: int = 50) -> tuple[list[Path], list[Path]]:
    """Videos of a folder by sorted name, the last ``keep_apart`` as the second list (validation).

    Raises:
        MediaError: if there are none.
    """
    return list_files(folder, SUFFIXES, "videos", keep_apart)


def _samples(parts: list[AudioFrame]) -> list[NDArray[np.int16]]:
    return [np.asarray(part.to_ndarray(), np.int16).reshape(-1) for part in parts]


def read_clip(path: Path, every: int = 1, with_audio: bool = True) -> RealClip:
    """Decode a short clip whole; keep every ``every``-th frame.

    Raises:
        MediaError: if it has no decodable picture or is longer than a minute.
    """
    import av
    import av.error

    frames: list[NDArray[np.uint8]] = []
    sound: list[NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            video.thread_type = "NONE"
            fps = float(video.average_rate or 25.0)
            if container.duration and container.duration / av.time_base > MAX_SECONDS:
                raise MediaError(f"{path} is longer than {MAX_SECONDS} s; cut it into clips of a few seconds first.")
            streams = [video]
            resampler = None
            if with_audio and container.streams.audio:
                streams.append(container.streams.audio[0])
                resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            count = 0
            for frame in container.decode(*streams):
                if isinstance(frame, av.VideoFrame):
                    if count % every == 0:
                        frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                    count += 1
                elif resampler is not None:
                    sound += _samples(resampler.resample(frame))
            if resampler is not None:
                sound += _samples(resampler.resample(None))
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} cannot be decoded ({reason(error)}); delete it or convert it to mp4.") from error
    if not frames:
        raise MediaError(f"{path} holds no frames; delete it or convert it to mp4.")
    audio = np.concatenate(sound) if sound else np.zeros(0, np.int16)
    return RealClip(Path(path).stem, np.stack(frames), audio.astype(np.int16), fps)


def at_rate(clip: RealClip, fps: int = FPS) -> RealClip:
    """The clip at ``fps`` frames a second, each frame the one shown at its middle; the sound stays."""
    if abs(clip.fps - fps) < 1e-3:
        return clip
    count = max(1, round(len(clip.frames) / clip.fps * fps))
    shown = ((np.arange(count) + 0.5) / fps * clip.fps).astype(int).clip(0, len(clip.frames) - 1)
    return RealClip(clip.name, clip.frames[shown], clip.audio, float(fps))


def face_square(
    network: FaceNetwork,
    frames: NDArray[np.uint8],
    looks: int = 5,
    guess: tuple[float, float, float] | None = None,
) -> tuple[float, float, float]:
    """The fixed canonical square of a clip: the median over a few frames of the largest face found.

    Args:
        network: a trained face network; frames: ``[t, h, w, 3]`` uint8.
        looks: how many frames are looked at.
        guess: where the face is known to be about (centre x, y, side): no search, only refinement by landmarks.

    Raises:
        FaceNotFoundError: if fewer than half of the looks show a face.
    """
    found = []
    picked = np.unique(np.linspace(0, len(frames) - 1, looks).round().astype(int))
    for index in picked:
        picture = frames_to_unit(frames[index])
        if guess is not None:
            square, _, confidence = network.refine(picture, guess)
            found += [square] if confidence > 0.5 else []
        else:
            found += [box.square for box in network.detect(picture)[:1]]
    if 2 * len(found) < len(picked):
        raise FaceNotFoundError(
            f"A face was found in {len(found)} of {len(picked)} frames: the clip shows no whole face, or one too small."
        )
    x, y, side = np.median(np.array(found), axis=0)
    return float(x), float(y), float(side)


@torch.no_grad()
def label_frames(
    network: FaceNetwork,
    frames: NDArray[np.uint8],
    square: tuple[float, float, float],
    size: int = 128,
    teacher: Teacher | None = None,
) -> dict[str, NDArray]:
    """Crop a clip at a fixed square and read every frame, also mirrored, averaged and lightly smoothed in time.

    Args:
        teacher: its landmarks take the place of the network's, as far as it has them.

    Returns:
        ``frames`` uint8 ``[t, size, size, 3]``, ``landmarks`` ``[t, 68, 2]``, ``pose`` ``[t, 6]`` and ``values``
        ``[t, 16]``.
    """
    pictures = frames_to_unit(frames)
    crops = torch.stack([crop_square(picture, square, size) for picture in pictures])
    batches = (
        torch.stack([crop_square(picture, square, network.crop_size) for picture in pictures[start : start + 25]])
        for start in range(0, len(pictures), 25)
    )
    taught = None if teacher is None else (teacher(frames) - (np.array(square[:2]) - square[2] / 2)) / square[2]
    return {"frames": unit_to_frames(crops), **read_labels(network, batches, taught)}


@torch.no_grad()
def read_labels(
    network: FaceNetwork, batches: Iterable[torch.Tensor], taught: NDArray | None = None
) -> dict[str, NDArray]:
    """Labels of the crops of one clip, read also mirrored, averaged and lightly smoothed.

    Args:
        batches: crops ``[n, 3, s, s]`` in [-1, 1], a few at a time; s is the network's ``crop_size``.
        taught: landmarks ``[t, 68, 2]`` that take the place of the network's, nan where there are none.

    Returns:
        ``landmarks`` ``[t, 68, 2]``, ``pose`` ``[t, 6]`` and ``values`` ``[t, 16]``.
    """
    landmarks, pose, values = [], [], []
    for part in batches:
        plain, flipped = network(part), network(part.flip(3))
        landmarks.append((plain.landmarks + mirror_landmarks(flipped.landmarks)) / 2)
        pose.append((plain.pose + mirror_pose(flipped.pose)) / 2)
        values.append((plain.values + mirror_values(flipped.values)) / 2)
    points = torch.cat(landmarks).numpy()
    if taught is not None:
        points = np.where(np.isnan(taught), points, taught)
    calm = smooth_in_time(points, (0.1, 0.2, 0.4, 0.2, 0.1))
    # Lips close and lids blink within two frames: these keep nearly all of their speed.
    calm[:, :36] = smooth_in_time(points, (0.15, 0.7, 0.15))[:, :36]
    return {
        "landmarks": calm.astype(np.float32),
        "pose": smooth_in_time(torch.cat(pose).numpy(), (0.1, 0.2, 0.4, 0.2, 0.1)),
        "values": smooth_in_time(torch.cat(values).numpy(), (0.15, 0.7, 0.15)),
    }


def smooth_in_time(series: NDArray[np.float32], kernel: tuple[float, ...]) -> NDArray[np.float32]:
    """Weighted mean over neighbouring frames of ``[t, ...]``, ends repeated; ``kernel`` is odd and sums to 1."""
    half = len(kernel) // 2
    padded = np.concatenate([series[:1]] * half + [series] + [series[-1:]] * half)
    total = sum(weight * padded[k : k + len(series)] for k, weight in enumerate(kernel))
    return np.asarray(total, dtype=np.float32)


def fit_audio(audio: NDArray[np.int16], frames: int, fps: float) -> NDArray[np.int16]:
    """Cut or pad the sound to exactly the length of the pictures."""
    samples = round(frames / fps * SAMPLE_RATE)
    return np.pad(audio, (0, max(0, samples - len(audio))))[:samples]


def labelled_by(teacher: Teacher | None) -> str:
    """What the clips' metadata call the source of their landmarks."""
    return BY_FACE_NETWORK if teacher is None else "teacher"


def label_clip(
    network: FaceNetwork,
    clip: RealClip,
    guess: tuple[float, float, float] | None = None,
    size: int = 128,
    teacher: Teacher | None = None,
) -> dict[str, NDArray]:
    """All tensors of a shard's clip for a real one; ``guess`` as in :func:`face_square`, the rest as in
    :func:`label_frames`.

    Raises:
        FaceNotFoundError: if it shows no face.
    """
    labels = label_frames(network, clip.frames, face_square(network, clip.frames, guess=guess), size, teacher)
    return {**labels, "audio": fit_audio(clip.audio, len(clip.frames), clip.fps)}


def write_real_shards(
    network: FaceNetwork,
    paths: Sequence[Path],
    output: Path,
    split: str,
    clips_per_shard: int = 20,
    head_cut: bool = False,
    licence: str = "unknown",
    identity: str = "",
    language: str = "en",
    resume: bool = True,
    size: int = 128,
    teacher: Teacher | None = None,
) -> int:
    """Label videos and write them as shards ``<split>-00000.safetensors``, ...; returns the number of clips there.

    Args:
        head_cut: the videos are already cut to a square around the head, so no search is needed.
        licence, language: noted with every clip, and identity, by default the file's name.
        resume: keep the shards that are already there. Videos without a face are passed over with a warning.
        size: side of the stored crops; teacher: as in :func:`label_frames`.

    Raises:
        MediaError: if none of the videos could be used.
    """
    network.eval()

    def label(path: Path, index: int) -> tuple[dict[str, NDArray], dict[str, object]]:
        clip = at_rate(read_clip(path))
        height, width = clip.frames.shape[1:3]
        guess = (0.5 * width, 0.48 * height, 0.85 * min(width, height)) if head_cut else None
        info: dict[str, object] = dict.fromkeys(INFO_FIELDS, "")
        info.update(
            source="real video",
            identity=identity or clip.name,
            language=language,
            sentence=clip.name,
            fps=round(clip.fps),
            split=split,
            licence=licence,
            seed=0,
            index=index,
            labels=labelled_by(teacher),
        )
        return label_clip(network, clip, guess, size, teacher), info

    return write_labelled(label, paths, output, split, clips_per_shard, resume)
