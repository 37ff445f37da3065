"""Real talking video as training material: reading clips, labelling them with the face network, writing shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

SAMPLE_RATE = 16_000
SUFFIXES = (".mp4", ".mpg", ".mkv", ".mov", ".webm")


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
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise MediaError(f"{folder} holds no videos ({', '.join(SUFFIXES)}); give the folder of talking clips.")
    cut = len(paths) - keep_apart
    return paths[:cut], paths[cut:]


def read_clip(path: Path, every: int = 1, with_audio: bool = True) -> RealClip:
    """Decode a short clip whole; keep every ``every``-th frame.

    Raises:
        MediaError: if it has no decodable picture.
    """
    import av

    frames: list[NDArray[np.uint8]] = []
    sound: list[NDArray[np.int16]] = []
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            video.thread_type = "NONE"
            fps = float(video.average_rate or 25.0)
            streams = [video]
            resampler = None
            if with_audio and container.streams.audio:
                streams.append(container.streams.audio[0])
                resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            count = 0
            for frame in container.decode(*streams):
                if isinstance(frame, av.VideoFrame):
                    if count % every == 0:
                        frames.append(frame.to_ndarray(format="rgb24"))
                    count += 1
                elif resampler is not None:
                    sound += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
            if resampler is not None:
                sound += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} cannot be decoded ({error}); delete it or convert it to mp4.") from error
    if not frames:
        raise MediaError(f"{path} holds no frames; delete it or convert it to mp4.")
    audio = np.concatenate(sound) if sound else np.zeros(0, np.int16)
    return RealClip(Path(path).stem, np.stack(frames), audio.astype(np.int16), fps)
