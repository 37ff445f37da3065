"""Frames of a video as numpy arrays, for the measurements that run without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import MediaError
from ...face.reading.face_mesh import Frame


def video_frames(path: str | Path, least_side: int = 0) -> Iterator[Frame]:
    """Frames ``[h, w, 3]`` uint8 RGB of a video file, one at a time.

    Args:
        path: any video FFmpeg reads.
        least_side: smaller pictures are enlarged to this shorter side: face detectors miss small faces.

    Raises:
        MediaError: if it cannot be decoded.
    """
    import av
    import av.error

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                shorter = min(frame.width, frame.height)
                if shorter < least_side:
                    scale = least_side / shorter
                    width, height = round(frame.width * scale / 2) * 2, round(frame.height * scale / 2) * 2
                    frame = frame.reformat(width=width, height=height, interpolation="BICUBIC")
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError(f"{path} cannot be read as a video ({error}).") from error
