"""Made videos against real ones, by published networks; beside each figure what the laziest baseline gets.

Of a Fréchet distance that is the real videos' own first frames held still, and the real videos' two halves against each
other. Of SyncNet's scores it is the same faces with the next video's voice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import FrameRateError, MediaError
from ...face.crops import CropTransform, resample_crop
from ...media.audio import load_audio, to_mono_16k
from ...media.video_reader import VideoReader
from ...published.network import Features, OnnxNetwork, network_inputs
from ...published.sync_net import FPS, lip_features, offset_curve, scores_of, voice_windows
from .frechet import Moments, frechet_distance

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".mpg", ".avi")

Measured = dict[str, dict[str, float]]
FindFace = Callable[[Tensor], CropTransform]
"""Where the face of a picture ``[3, h, w]`` lies."""


@dataclass(frozen=True)
class FaceVideo:
    """Frames of a video, as they are or cut around the face of the first one; a fixed square, as the pipeline's."""

    path: Path
    find: FindFace | None = None

    def __iter__(self) -> Iterator[Tensor]:
        square = None
        for frame in VideoReader(self.path):
            if self.find is None:
                yield frame
                continue
            square = square or self.find(frame)
            yield resample_crop(frame, square, round(square.side))

    def held(self) -> Iterator[Tensor]:
        """The first frame, as often as the video has frames."""
        first = next(iter(self))
        for _ in self:
            yield first


def videos_of(path: Path) -> list[Path]:
    """The video, or those of a folder by name.

    Raises:
        MediaError: if there is none.
    """
    found = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise MediaError(f"{path} is neither a video nor a folder with videos ({', '.join(VIDEO_SUFFIXES)}).")
    return found


def _moments(network: OnnxNetwork, videos: Iterable[Iterable[Tensor]]) -> Moments:
    moments = Moments()
    for video in videos:
        for batch in network_inputs(network, video):
            moments.add(network(batch))
    return moments


def frechet(
    network: OnnxNetwork, made: Sequence[Path], real: Sequence[Path], find: FindFace | None
) -> dict[str, float]:
    """Fréchet distance of made videos to real ones, ``held_still``'s and, of two real videos or more, ``real_halves``.

    Args:
        find: cut the pictures around the face, for networks of faces; None shows them whole.
    """
    filmed = [FaceVideo(path, find) for path in real]
    halves = [_moments(network, filmed[begin::2]) for begin in (0, 1)]
    target = halves[0].merge(halves[1])
    scores = {
        "distance": frechet_distance(_moments(network, (FaceVideo(path, find) for path in made)), target),
        "held_still": frechet_distance(_moments(network, (video.held() for video in filmed)), target),
    }
    if len(filmed) > 1:
        scores["real_halves"] = frechet_distance(*halves)
    return scores


@torch.no_grad()
def sync(lips: OnnxNetwork, voice: OnnxNetwork, videos: Sequence[Path], find: FindFace) -> dict[str, float]:
    """Means over videos of Sync-D, Sync-C and the offset's size; of two videos or more also with the next one's voice.

    Raises:
        FrameRateError: if a video does not have 25 frames a second.
    """
    faces: list[Features] = []
    voices: list[Features] = []
    for path in videos:
        video = VideoReader(path)
        if abs(video.fps - FPS) > 0.01:
            raise FrameRateError(f"{path.name} has {video.fps:.2f} frames a second; SyncNet knows {FPS} alone.")
        faces.append(lip_features(lips, video, find(next(iter(video)))))
        sound = load_audio(path)
        mono = to_mono_16k(sound.waveform, sound.sample_rate, allow_silent=True)
        voices.append(voice(voice_windows(mono, len(faces[-1]))))
    scores = _mean_sync(zip(faces, voices, strict=True))
    if len(videos) > 1:
        wrong = _mean_sync(zip(faces, [*voices[1:], voices[0]], strict=True))
        scores.update({f"{name}_wrong_voice": value for name, value in wrong.items()})
    return scores


def _mean_sync(pairs: Iterable[tuple[Features, Features]]) -> dict[str, float]:
    scores = []
    for lips, voice in pairs:
        count = min(len(lips), len(voice))
        scores.append(scores_of(offset_curve(lips[:count], voice[:count])))
    return {
        "sync_d": sum(score.distance for score in scores) / len(scores),
        "sync_c": sum(score.confidence for score in scores) / len(scores),
        "offset": sum(abs(score.offset) for score in scores) / len(scores),
    }


def compare(
    made: Sequence[Path],
    real: Sequence[Path],
    networks: Mapping[str, tuple[OnnxNetwork, bool]],
    sync_networks: tuple[OnnxNetwork, OnnxNetwork] | None,
    find: FindFace,
) -> Measured:
    """All figures that the networks at hand give.

    Args:
        networks: of Fréchet distances by the figure's name, and whether each is shown the face alone.
        sync_networks: SyncNet's, of lips and of voices; real videos, if there are any, are measured beside.
    """
    result: Measured = {}
    for name, (network, face) in networks.items():
        result[name] = frechet(network, made, real, find if face else None)
    if sync_networks is not None:
        result["sync"] = sync(*sync_networks, made, find)
        if real:
            result["sync_of_real_videos"] = sync(*sync_networks, real, find)
    return result
