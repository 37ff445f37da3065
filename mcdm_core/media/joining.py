"""Joining of clips into one video without coding their pictures again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .audio import Audio
from .sound_track import SoundTrack
from .video_writer import exact_rate


def join_clips(
    paths: list[Path], target: Path, fps: float, audio: Audio | None, between: Callable[[], None] | None = None
) -> None:
    """Copy the pictures of h264 mp4 files of one size one after the other, and encode the sound once over them all.

    Encoding the sound a clip at a time would leave a gap of the encoder's delay at every seam.
    """
    import av

    rate = exact_rate(fps)
    frames = 0
    with av.open(str(target), "w", format="mp4", options={"movflags": "use_metadata_tags+faststart"}) as out:
        picture: Any = None
        sound: SoundTrack | None = None
        for path in paths:
            if between is not None:
                between()
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                if picture is None:
                    out.metadata.update(source.metadata)
                    picture = out.add_stream_from_template(stream)
                    if audio is not None:
                        sound = SoundTrack(out, audio)
                count = 0
                offset = round(frames / rate / stream.time_base)
                first: int | None = None
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    if first is None:
                        first = _first_timestamp(path)
                    packet.pts += offset - first
                    packet.dts += offset - first
                    packet.stream = picture
                    out.mux(packet)
                    count += 1
                frames += count
                if sound is not None:
                    sound.write_until(frames / rate)
        if sound is not None:
            sound.finish(frames / rate)


def _first_timestamp(path: Path) -> int:
    """Presentation time of a clip's first frame in units of its stream; later packets may be shown earlier."""
    import av

    with av.open(str(path)) as source:
        return min(packet.pts for packet in source.demux(source.streams.video[0]) if packet.pts is not None)
