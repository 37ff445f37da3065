"""Writing of h264 + aac mp4 files clip by clip, playable whenever the writing stops."""

from __future__ import annotations

import contextlib
import logging
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from einops import rearrange

from ..errors import FrameRateError, MCDMError, MediaError, unwritable
from ..files import part_path, replace_finished
from .audio import Audio
from .audio_reader import AudioReader
from .opening import ffmpeg_name
from .sound_track import SoundTrack
from .transparency.provenance import note_tags

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

EVERY_RUN_ALIKE = {"x264-params": "cpu-independent=1"}
"""Options of libx264: by the quick code for this processor, small pictures make another video at each run."""
_VIDEO_CODECS = ("libx264", "h264", "libopenh264", "mpeg4")


def exact_rate(fps: float) -> Fraction:
    """A frame rate as the fraction that containers store.

    >>> exact_rate(25), exact_rate(29.97002997)
    (Fraction(25, 1), Fraction(30000, 1001))
    """
    return Fraction(fps).limit_denominator(1001)


CRF = 17
"""x264's quality of a generated video."""


class VideoWriter:
    """Writes frames as they come; the sound follows the picture and ends with it.

    While it grows the video has another name (``part``, see ``files.py``) and is a fragmented mp4. What is on disk
    plays even after a crash. The end (:meth:`close`) makes it an ordinary mp4, where FFmpeg is 8 or newer, and moves it
    to ``path``. Only then an older file there is replaced. Use it as a context manager: after an exception, Ctrl-C
    included, ``part`` stays, closed and playable. Container metadata say that the video is synthetic.

    Args:
        path: of the mp4 file to make; its folder is made.
        width, height: of the frames; an odd size is padded by one repeated column or row, as yuv420p asks.
        fps: frames per second.
        audio: the sound from the first frame on, or None.
        crf: x264's quality, lower is better.

    Raises:
        FrameRateError, MediaError: for a senseless rate or size, or a path that cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float,
        audio: Audio | AudioReader | None = None,
        *,
        crf: int = CRF,
    ) -> None:
        if not 0 < fps <= 120:
            raise FrameRateError(f"The frame rate is {fps}; expected a number above 0 and up to 120.")
        if width < 2 or height < 2:
            raise MediaError(f"A video of {width}x{height} pixels cannot be written; at least 2x2 are needed.")
        self.path = Path(path)
        self.part = part_path(self.path)
        self.width, self.height = width, height
        self.fps = exact_rate(fps)
        self.frames_written = 0
        self._closed = False
        self._container = self._open()
        self._video: VideoStream = self._add_video(crf)
        self._sound = SoundTrack(self._container, audio) if audio is not None else None

    def _open(self) -> OutputContainer:
        import av
        import av.error

        flags = "frag_keyframe+delay_moov+default_base_moof"
        # FFmpeg 7.1 and 8.0 have it too, but the index that they write leads nowhere: nothing plays.
        if av.library_versions.get("libavformat", (0, 0, 0)) >= (62, 12, 0):
            flags += "+hybrid_fragmented"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            options = {"movflags": flags, "flush_packets": "1"}
            container = av.open(ffmpeg_name(self.part), "w", format="mp4", container_options=options)
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(self.path, error) from error
        container.metadata.update(note_tags())
        return container

    def _add_video(self, crf: int) -> VideoStream:
        import av

        for name in _VIDEO_CODECS:
            if name in av.codecs_available:
                break
        else:
            raise MediaError("This build of PyAV has no h264 encoder. Install the 'av' wheel from PyPI.")
        stream = self._container.add_stream(name, rate=self.fps)
        stream.width = self.width + self.width % 2
        stream.height = self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        if name == "libx264":
            stream.options = {"crf": str(crf), "preset": "veryfast", **EVERY_RUN_ALIKE}
        else:
            stream.bit_rate = int(0.2 * stream.width * stream.height * float(self.fps))
        stream.gop_size = max(1, round(float(self.fps)))  # a fragment a second: that is the most a crash can lose
        stream.codec_context.time_base = 1 / self.fps
        return stream

    def write(self, frames: torch.Tensor) -> None:
        """Append frames [f, 3, h, w] in [0, 1] or uint8 (or one, [3, h, w]) and the sound that belongs to them.

        Raises:
            MediaError: after :meth:`close`, for another size than the writer's, or if the disk is full.
            OutOfMemoryError: if memory does not suffice to encode them.
        """
        import av
        import av.error

        if self._closed:
            raise MediaError(f"{self.path.name} is closed; open a new VideoWriter to write more.")
        if frames.ndim == 3:
            frames = frames[None]
        if tuple(frames.shape[-3:]) != (3, self.height, self.width):
            raise MediaError(
                f"Frames of shape {list(frames.shape)} were given to a video of {self.width}x{self.height}; "
                f"expected [f, 3, {self.height}, {self.width}]."
            )
        if self.width % 2:
            frames = torch.cat([frames, frames[..., -1:]], -1)
        if self.height % 2:
            frames = torch.cat([frames, frames[..., -1:, :]], -2)
        try:
            self._encode(frames)
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(self.path, error) from error

    def _encode(self, frames: torch.Tensor) -> None:
        import av

        for frame in frames:
            if frame.dtype != torch.uint8:
                frame = frame.mul(255).round_().clamp_(0, 255).to(torch.uint8)
            pixels = rearrange(frame, "c h w -> h w c").contiguous().cpu().numpy()
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts = self.frames_written
            picture.time_base = 1 / self.fps
            for packet in self._video.encode(picture):
                self._container.mux(packet)
            self.frames_written += 1
            if self._sound is not None:
                self._sound.write_until(self.frames_written / self.fps)

    def close(self, *, finished: bool = True) -> None:
        """Finish the file; the sound ends with the last frame. Closing twice does nothing.

        Args:
            finished: move it to ``path``; else it stays under the name ``part``.

        Raises:
            MediaError, OutOfMemoryError: if the rest cannot be written; what is on the disk plays.
        """
        import av
        import av.error

        if self._closed:
            return
        self._closed = True
        try:
            try:
                if self.frames_written:
                    self._flush()
            finally:
                self._container.close()
            if not self.frames_written:
                self.part.unlink(missing_ok=True)
                logger.warning("No frame was written, so %s was not made.", self.path.name)
            elif finished:
                replace_finished(self.part, self.path)
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(self.path, error) from error

    def _flush(self) -> None:
        if self._sound is not None:
            self._sound.finish(self.frames_written / self.fps)
        for packet in self._video.encode(None):
            self._container.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(MCDMError):  # the first error says more
            self.close(finished=False)
