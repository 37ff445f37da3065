"""Joining of clips into one mp4: packets are copied, time stamps counted anew, the sound encoded once over them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .audio import Audio
from .audio_reader import AudioReader
from .opening import ffmpeg_name
from .sound_track import SoundTrack
from .video_writer import exact_rate

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_DELAY = 2
"""Frames by which x264 decodes ahead where clips are long enough to have B-frames (VideoWriter's settings)."""


def join_clips(
    paths: Sequence[Path],
    target: Path,
    fps: float,
    audio: Audio | AudioReader | None,
    between: Callable[[], None] | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Copy the pictures of h264 mp4 files of one size one after the other, and encode the sound once over them all.

    Encoding the sound a clip at a time would leave a gap of the encoder's delay at every seam.

    Args:
        paths: of the clips, all made by one encoder with one setting.
        target: the mp4 to write.
        audio: the sound of the whole, or None.
        between: called before each clip; may raise to stop.
        metadata: tags of the container beside those of the first clip.
    """
    import av

    options = {"movflags": "use_metadata_tags+faststart"}
    with av.open(ffmpeg_name(target), "w", format="mp4", options=options) as out:
        joined: _Pictures | None = None
        sound: SoundTrack | None = None
        for path in paths:
            if between is not None:
                between()
            with av.open(ffmpeg_name(path)) as source:
                stream = source.streams.video[0]
                if joined is None:
                    out.metadata.update(source.metadata | (metadata or {}))
                    joined = _Pictures(out, stream, exact_rate(fps))
                    if audio is not None:
                        sound = SoundTrack(out, audio)
                joined.append([packet for packet in source.demux(stream) if packet.pts is not None])
            if sound is not None:
                sound.write_until(joined.seconds)
        if joined is not None and sound is not None:
            sound.finish(joined.seconds)


class _Pictures:
    """The picture stream of a joined video, at one constant rate.

    Packets of a clip come in decoding order. The encoder delays each clip as its own B-frames ask, and a short last
    clip has none. Kept, that difference would become one long frame, and every average rate computed from it wrong. So
    packet n of the whole is decoded at n - delay, with one delay for all; each picture keeps its place.
    """

    def __init__(self, out: OutputContainer, template: VideoStream, rate: Fraction) -> None:
        self._out, self._rate = out, rate
        self._stream: Any = out.add_stream_from_template(template)
        self._stream.time_base = template.time_base
        self._delay: int | None = None
        self._count = 0

    @property
    def seconds(self) -> Fraction:
        """Length of what is there."""
        return self._count / self._rate

    def append(self, packets: list[Any]) -> None:
        """Add the packets of one clip."""
        if not packets:
            return
        step = 1 / (self._rate * packets[0].time_base)
        first = min(packet.pts for packet in packets)
        if self._delay is None:
            self._delay = max(_DELAY, round((first - packets[0].dts) / step))
        for number, packet in enumerate(packets, self._count - self._delay):
            place = self._count + round((packet.pts - first) / step)
            packet.pts = round(place * step)
            packet.dts = min(packet.pts, round(number * step))
            packet.duration = round((place + 1) * step) - packet.pts
            packet.stream = self._stream
            self._out.mux(packet)
        self._count += len(packets)
