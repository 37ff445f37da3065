"""Raw video as a curator wants it: upright, at one frame rate, with the sound on the same clock; and its cuts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import MediaError, reason
from ...media.audio import MODEL_SAMPLE_RATE
from ...media.opening import decoding_errors, open_media
from .settings import CurateSettings

if TYPE_CHECKING:
    from av import VideoFrame

Frame = NDArray[np.uint8]
_CUT_SIDE = 256
"""Pixels of the longer side in which cuts are looked for."""
_LAST_SHOWN = 0.2
"""Seconds for which a file's last frame is shown at most."""
_LONGEST_STILL = 60.0
"""Seconds that one frame may be shown; a time stamp beyond is taken for damage."""
_LATEST_SOUND = 3600.0
"""Seconds between the beginnings of picture and sound, at most."""
_BEFORE = 2.0
"""Seconds before a clip at which decoding starts, at least."""


@dataclass(frozen=True)
class VideoFacts:
    """What a file says of itself: seconds of picture, size (upright), and the time of its first frame."""

    seconds: float
    width: int
    height: int
    start: float
    has_sound: bool


def probe(path: Path) -> VideoFacts:
    """Facts of a video, by its header and first frame.

    Raises:
        MediaError: if it holds no picture that can be decoded.
    """
    import av

    with open_media(path) as container:
        if not container.streams.video:
            raise MediaError(f"{path.name} holds no video stream.")
        stream = container.streams.video[0]
        try:
            first = next(container.decode(stream))
        except (*decoding_errors(), StopIteration) as error:
            raise MediaError(f"{path.name} cannot be decoded ({reason(error)}).") from error
        pixels = _upright(first)
        start = float(first.time or 0.0)
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = float(container.duration or 0) / av.time_base
        return VideoFacts(seconds, pixels.shape[1], pixels.shape[0], start, bool(container.streams.audio))


def read_frames(
    path: Path, facts: VideoFacts, fps: int, begin: float = 0.0, end: float | None = None, longest: int | None = None
) -> Iterator[Frame]:
    """Frames ``[h, w, 3]`` of a segment at a constant rate: frame k is the one shown at the middle of its time.

    A file of a variable rate is evened out by this. One that is damaged further on, or stands still for over a minute,
    ends there. Pictures that change their size on the way are shown at the first one's.

    Args:
        begin, end: seconds from the first frame. longest: shrink so that no side is longer.

    Raises:
        MediaError: if nothing of the segment can be decoded.
    """
    latest: Any = None
    shown: Frame | None = None
    wanted, count, seen = begin + 0.5 / fps, 0, 0.0

    def picture() -> Frame:
        """Of the latest frame; only those that are shown are converted."""
        nonlocal shown
        if shown is None:
            shown = _shrunk(_of_size(_upright(latest), facts), longest)
        return shown

    try:
        with open_media(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            if begin > _BEFORE and stream.time_base:
                target = facts.start + begin - _BEFORE
                container.seek(int(target / float(stream.time_base)), stream=stream, backward=True)
            for frame in container.decode(stream):
                time = float(frame.time or 0.0) - facts.start
                if latest is not None and time > max(seen, wanted) + _LONGEST_STILL:
                    break
                while latest is not None and time > wanted and (end is None or wanted < end):
                    yield picture()
                    count += 1
                    wanted = begin + (count + 0.5) / fps
                if end is not None and wanted >= end:
                    return
                latest, shown, seen = frame, None, time
    except decoding_errors() as error:
        if latest is None:
            raise MediaError(f"{path.name} cannot be decoded from {begin:.1f} s on ({reason(error)}).") from error
    # The last frame is shown as long as the file says, but a file that is cut off does not stand still for minutes.
    last = min(facts.seconds, seen + _LAST_SHOWN, facts.seconds if end is None else end)
    while latest is not None and wanted < last:
        yield picture()
        count += 1
        wanted = begin + (count + 0.5) / fps


def read_sound(path: Path, facts: VideoFacts) -> torch.Tensor:
    """The sound ``[s]`` at 16 kHz, mono, in [-1, 1], sample 0 at the first frame; as far as it can be decoded.

    Raises:
        MediaError: if there is none.
    """
    import av

    pieces: list[np.ndarray] = []
    begin: float | None = None
    try:
        with open_media(path) as container:
            if not container.streams.audio:
                raise MediaError(f"{path.name} has no sound.")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=MODEL_SAMPLE_RATE)
            for frame in container.decode(container.streams.audio[0]):
                if begin is None:
                    begin = float(frame.time or 0.0)
                pieces += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
            pieces += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    except decoding_errors() as error:
        if not pieces:
            raise MediaError(f"The sound of {path.name} cannot be decoded ({reason(error)}).") from error
    if not pieces or begin is None:
        raise MediaError(f"{path.name} has no sound.")
    sound = torch.from_numpy(np.concatenate(pieces).astype(np.float32))
    if abs(begin - facts.start) > _LATEST_SOUND:
        raise MediaError(f"The sound of {path.name} begins {begin - facts.start:.0f} s after its picture.")
    offset = round((begin - facts.start) * MODEL_SAMPLE_RATE)
    return torch.nn.functional.pad(sound, (offset, 0)) if offset >= 0 else sound[-offset:]


def find_shots(path: Path, facts: VideoFacts, settings: CurateSettings) -> list[tuple[float, float]]:
    """Segments ``(begin, end)`` in seconds between the cuts, each cut into equal clips of the longest length at most.

    Raises:
        MediaError: if nothing can be decoded.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode

    fps = settings.fps
    # A cut between two pictures of one studio changes little, but far more than the frames around it.
    detector = AdaptiveDetector(min_content_val=settings.cut_threshold, min_scene_len=max(2, fps // 3))
    cuts: list[int] = []
    count = 0
    for frame in read_frames(path, facts, fps, longest=_CUT_SIDE):
        found = detector.process_frame(FrameTimecode(count, float(fps)), np.ascontiguousarray(frame[:, :, ::-1]))
        cuts += [cut.frame_num for cut in found]
        count += 1
    cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(count, float(fps)))]
    return split_shots([0, *cuts, count], fps, settings.max_seconds)


def split_shots(edges: list[int], fps: int, longest: float) -> list[tuple[float, float]]:
    """Clips ``(begin, end)`` in seconds between frame numbers, none longer than ``longest``.

    >>> split_shots([0, 50, 150], 25, 3.0)
    [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    """
    shots = []
    for first, last in itertools.pairwise(edges):
        parts = max(1, -(-(last - first) // int(longest * fps)))
        inner = [first + (last - first) * part // parts for part in range(parts + 1)]
        shots += [(a / fps, b / fps) for a, b in itertools.pairwise(inner) if b > a]
    return shots


def _upright(frame: VideoFrame) -> Frame:
    """A decoded frame as it is to be seen: phones store a quarter turn beside the pictures."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _of_size(pixels: Frame, facts: VideoFacts) -> Frame:
    import cv2

    if pixels.shape[:2] == (facts.height, facts.width):
        return pixels
    return np.asarray(cv2.resize(pixels, (facts.width, facts.height), interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk(pixels: Frame, longest: int | None) -> Frame:
    import cv2

    side = max(pixels.shape[:2])
    if longest is None or side <= longest:
        return pixels
    size = (max(1, round(pixels.shape[1] * longest / side)), max(1, round(pixels.shape[0] * longest / side)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
