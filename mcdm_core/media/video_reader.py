"""Reading of videos: upright frames with the time at which each is shown, for drivers, continuation and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import FrameRateError, MediaError, reason
from .opening import decoding_errors, open_media
from .pixels import picture_planes

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

LARGEST = 64_000_000
"""Most pixels of a frame that is decoded."""
_ADVICE = "Save it as mp4."
_LONGEST_PAUSE = 60.0
"""Seconds between two frames; a larger step of the time stamps is a fault of the file."""

T = TypeVar("T")


class VideoReader:
    """Iterates over the frames ``[3, h, w]`` in [0, 1] of a video's first picture stream, upright and of one size.

    Args:
        source: a path, or an open binary file, which is read from its beginning each time.
        name: for messages; a file's own by default.
        start, duration: the segment that is read, in seconds; 0 seconds last to the end.

    Attributes:
        fps: average frame rate; width, height: of the upright frames; metadata: of the container.

    Raises:
        MediaError: if the file is missing, holds no video or cannot be decoded.
    """

    def __init__(
        self, source: str | Path | BinaryIO, *, name: str = "", start: float = 0.0, duration: float = 0.0
    ) -> None:
        self.source, self.start, self.duration = source, start, duration
        self.name = name or (Path(source).name if isinstance(source, str | Path) else "The video")
        with self._opened() as container:
            stream = _pictures(container, self.name)
            self.fps = _rate(stream)
            self.metadata = dict(container.metadata)
            self.width, self.height = stream.width, stream.height
            self._check_size(self.width, self.height)
        first = next(self._frames(), None)
        if first is not None:
            self.width, self.height = (first[1].width, first[1].height)[:: -1 if _quarter_turns(first[1]) % 2 else 1]

    def __iter__(self) -> Iterator[Tensor]:
        """All frames, each once."""
        return (self._upright(frame) for _, frame in self._frames(warn=True))

    def at_rate(self, fps: float) -> Iterator[Tensor]:
        """The frame shown at each moment ``k / fps`` from the first frame on, by the time stamps.

        Raises:
            FrameRateError: if the rate is not positive.
        """
        last: tuple[VideoFrame, Tensor] | None = None
        for frame in shown_at(self._frames(warn=True), fps, 1 / self.fps):
            if last is None or last[0] is not frame:
                last = (frame, self._upright(frame))
            yield last[1]

    def _opened(self) -> InputContainer:
        if isinstance(self.source, str | Path) and not Path(self.source).is_file():
            raise MediaError(f"There is no video at {self.source}. Check the path.")
        if not isinstance(self.source, str | Path):
            self.source.seek(0)
        return open_media(self.source, name=self.name, advice=_ADVICE)

    def _frames(self, warn: bool = False) -> Iterator[tuple[float, VideoFrame]]:
        """Frames with the seconds from the first one at which they are shown."""
        count, clock = 0, _Clock(1 / self.fps)
        with self._opened() as container:
            stream = _pictures(container, self.name)
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    self._check_size(frame.width, frame.height)
                    count += 1
                    now = clock.read(frame.time)
                    if now < self.start - 1e-4:
                        continue
                    if self.duration and now >= self.start + self.duration - 1e-4:
                        return
                    yield now - self.start, frame
            except decoding_errors() as error:
                if not count:
                    raise MediaError(f"{self.name} is damaged ({reason(error)}). {_ADVICE}") from error
                if warn:  # an interrupted recording: what is whole is used, as players do
                    logger.warning("%s ends damaged after %d frames (%s).", self.name, count, reason(error))

    def _check_size(self, width: int, height: int) -> None:
        if width * height > LARGEST:
            raise MediaError(
                f"{self.name} has frames of {width}x{height} pixels; up to {LARGEST // 1_000_000} million are read. "
                "Make it smaller."
            )

    def _upright(self, frame: VideoFrame) -> Tensor:
        turns = _quarter_turns(frame)
        size = (self.width, self.height)[:: -1 if turns % 2 else 1]
        if (frame.width, frame.height) != size:  # the size changed on the way
            frame = frame.reformat(width=size[0], height=size[1])
        return picture_planes(np.rot90(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False), turns))


class _Clock:
    """Seconds from the first frame on that never run backwards, also where time stamps are missing or wrong."""

    def __init__(self, usual: float) -> None:
        self._usual, self._offset, self._now = usual, None, -usual

    def read(self, time: float | None) -> float:
        """The time of the next frame, whose stamp is ``time``."""
        expected = self._now + self._usual
        if time is None:
            self._now = expected
            return self._now
        if self._offset is None or not 0 <= time - self._offset - self._now <= _LONGEST_PAUSE:
            self._offset = time - expected
        self._now = time - self._offset
        return self._now


def shown_at(frames: Iterable[tuple[float, T]], fps: float, last: float | None = None) -> Iterator[T]:
    """What is shown at each moment ``k / fps``.

    Args:
        frames: with the seconds at which each begins to be shown, in order.
        last: how long the last one is shown; by default as long as the one before, a moment of ``fps`` at most.

    Raises:
        FrameRateError: if the rate is not positive.

    >>> list(shown_at([(0.0, "a"), (0.1, "b"), (0.35, "c")], fps=10))
    ['a', 'b', 'b', 'b', 'c']
    """
    if not 0 < fps < float("inf"):
        raise FrameRateError(f"A frame rate must be positive, got {fps}.")
    made, shown, begin, shortest = 0, None, 0.0, 1 / fps
    for start, frame in frames:
        if shown is not None:
            shortest = min(1 / fps, start - begin)
        begin = start
        # A frame is taken at the moment nearest to its beginning, as time stamps are rounded.
        while shown is not None and made / fps < begin - 1e-3:
            yield shown
            made += 1
        shown = frame
    end = begin + (shortest if last is None else last)
    while shown is not None and made / fps < end - 1e-3:
        yield shown
        made += 1


def read_video(path: str | Path, max_frames: int | None = None) -> tuple[Tensor, float]:
    """All frames [f, 3, h, w] in [0, 1] of a short video, at most ``max_frames``, and its frame rate.

    Raises:
        MediaError: see :class:`VideoReader`; also for a video without a single frame.
    """
    reader = VideoReader(path)
    frames: list[Tensor] = []
    for frame in reader:
        if max_frames is not None and len(frames) >= max_frames:
            break
        frames.append(frame)
    if not frames:
        raise MediaError(f"{reader.name} has no frames.")
    return torch.stack(frames), reader.fps


def _pictures(container: InputContainer, name: str) -> VideoStream:
    """The first stream of moving pictures; a sound's cover is none."""
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise MediaError(f"{name} holds no video stream. Give a video.")
    if streams[0].codec_context is None:
        raise MediaError(f"{name} holds pictures in a coding that FFmpeg does not know. {_ADVICE}")
    return streams[0]


def _rate(stream: VideoStream) -> float:
    """Frames a second: the usual distance of frames, or their mean where these differ much (a variable rate)."""
    usual, mean = float(stream.guessed_rate or 0), float(stream.average_rate or 0)
    rate = usual if abs(usual - mean) < 0.05 * mean else mean or usual
    return rate if 0 < rate < 1000 else 25.0


def _is_cover(stream: VideoStream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4
