"""Users' files as FFmpeg opens them: by any name, from the disk alone, and media only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import MCDMError, MediaError, reason

if TYPE_CHECKING:
    from av.container import InputContainer

_FORMATS = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "apng", "asf", "au", "avi", "caf", "dsf", "dts", "dtshd",
    "dv", "eac3", "flac", "flv", "gif", "gsm", "h264", "hevc", "ivf", "jpeg_pipe", "loas", "m4v", "matroska,webm",
    "mjpeg", "mlp", "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu",
    "ogg", "png_pipe", "rm", "tak", "truehd", "tta", "voc", "w64", "wav", "webp_pipe", "wtv", "wv", "yuv4mpegpipe",
)  # fmt: skip
"""Kinds of files that are opened. Not among them: playlists and scripts, which open further files or addresses."""


def ffmpeg_name(path: str | Path) -> str:
    """A path as FFmpeg takes it literally; without ``file:`` it reads ``voice:1.flac`` as a protocol named voice.

    >>> ffmpeg_name("/home/voice:1.flac")
    'file:/home/voice:1.flac'
    """
    return f"file:{Path(path).absolute()}"


def open_media(
    source: str | Path | BinaryIO | io.RawIOBase,
    *,
    name: str = "",
    advice: str = "Save it again.",
    error: type[MCDMError] = MediaError,
) -> InputContainer:
    """Open a file with sound or pictures.

    Args:
        source: a path, or an open binary file.
        name: for messages; a file's own by default; advice: for what cannot be read.
        error: class of the errors raised.

    Raises:
        MediaError: if the file is missing or unreadable, or is a list of other files.
    """
    import av
    import av.error

    target = source
    if isinstance(source, str | Path):
        name = name or Path(source).name
        if not Path(source).is_file():
            raise error(f"There is no file at {source}. Check the path.")
        target = ffmpeg_name(source)
    options = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "file"}
    try:
        return av.open(target, "r", options=options, **_lenient_tags(av.__version__))
    except (OSError, ValueError, av.error.FFmpegError) as failure:
        raise error(f"{name} cannot be read ({reason(failure)}). {advice}") from failure


def _lenient_tags(version: str) -> dict[str, Any]:
    """Takes tags that are no UTF-8 without an error; from av 19 on that is so, and the option is gone."""
    return {"metadata_errors": "replace"} if int(version.split(".")[0]) < 19 else {}


def decoding_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises for damaged files: FFmpeg's errors, and its own where a stream appears unannounced."""
    import av
    import av.error

    return OSError, IndexError, av.error.FFmpegError
