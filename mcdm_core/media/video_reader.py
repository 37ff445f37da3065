"""Reading of videos frame by frame, for driving videos, continuation and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import MediaError, reason

logger = logging.getLogger(__name__)


class VideoReader:
    """Iterates over the frames [3, h, w] in [0, 1] of a video's first picture stream.

    Args:
        path: any video FFmpeg reads.

    Attributes:
        fps: average frame rate.

    Raises:
        MediaError: if the file is missing, holds no video or cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        import av

        self.path = Path(path)
        if not self.path.is_file():
            raise MediaError(f"There is no video at {self.path}. Check the path.")
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise MediaError(f"{self.path.name} holds no video stream.")
                stream = container.streams.video[0]
                rate = stream.average_rate or stream.guessed_rate
                self.fps = float(rate) if rate else 25.0
                self.width, self.height = stream.width, stream.height
                self.metadata = dict(container.metadata)
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self.path.name} cannot be read as a video ({reason(error)}). Save it as mp4."
            ) from error

    def __iter__(self) -> Iterator[torch.Tensor]:
        import av
        import numpy as np

        count = 0
        try:
            with av.open(str(self.path)) as container:
                for frame in container.decode(container.streams.video[0]):
                    pixels = frame.to_ndarray(format="rgb24")
                    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    if quarter_turns:
                        pixels = np.rot90(pixels, quarter_turns)
                    count += 1
                    yield torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255
        except av.error.FFmpegError as error:
            if count:  # an interrupted recording: what is whole is used, as players do
                logger.warning("%s ends damaged after %d frames (%s).", self.path.name, count, reason(error))
                return
            raise MediaError(f"{self.path.name} is damaged ({reason(error)}). Save it again as mp4.") from error


def read_video(path: str | Path, max_frames: int | None = None) -> tuple[torch.Tensor, float]:
    """All frames [f, 3, h, w] in [0, 1] of a short video, at most ``max_frames``, and its frame rate.

    Raises:
        MediaError: see :class:`VideoReader`; also for a video without a single frame.
    """
    reader = VideoReader(path)
    frames: list[torch.Tensor] = []
    for frame in reader:
        if max_frames is not None and len(frames) >= max_frames:
            break
        frames.append(frame)
    if not frames:
        raise MediaError(f"{reader.path.name} has no frames.")
    return torch.stack(frames), reader.fps
