"""Reading of sound block by block: any length, any number of channels, formats that change on the way."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor

from ..errors import AudioError, reason
from .opening import decoding_errors, open_media

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import WriteableBuffer
    from av import AudioFrame
    from av.container import InputContainer

logger = logging.getLogger(__name__)

RATES = (1_000, 768_000)
"""Lowest and highest sample rate in Hz that counts as sound."""
ADVICE = "Convert it to wav, flac or mp3, or save it again."
_PAGE_HEADER = 27


class AudioReader:
    """Iterates over the first sound of a file in blocks ``[c, t]``, float in about [-1, 1].

    The rate and the channels (one, or two) are the beginning's; what differs later is converted. More than two
    channels are mixed down as FFmpeg does it; where they have no known places, all alike.

    Args:
        source: a path, or an open binary file, which is read from its beginning each time.
        name: for messages; a file's own by default; advice: what to do with a file that cannot be read.
        rate: in Hz, to convert all of it to; the beginning's by default.

    Attributes:
        sample_rate: in Hz; channels: 1 or 2.

    Raises:
        AudioError: if there is no such file, or no sound in it that can be decoded.
    """

    def __init__(
        self, source: str | Path | BinaryIO, *, name: str = "", advice: str = ADVICE, rate: int | None = None
    ) -> None:
        self.source, self.advice = source, advice
        self.name = name or (Path(source).name if isinstance(source, str | Path) else "The sound")
        first = next(self._frames(), None)
        if first is None:
            raise AudioError(f"{self.name} holds no sound (length zero). Give a recording of some speech.")
        self.sample_rate = rate or first.sample_rate
        self.channels = 1 if first.layout.nb_channels == 1 else 2

    def __iter__(self) -> Iterator[Tensor]:
        """Blocks of the whole sound from its beginning; damaged parts are left out, with a warning."""
        converter: _Converter | None = None
        for frame in self._frames(warn=True):
            if converter is None or not converter.takes(frame):
                if converter is not None:
                    yield from converter.finish()
                converter = _Converter(frame, self.channels, self.sample_rate)
            yield from converter.convert(frame)
        if converter is not None:
            yield from converter.finish()

    def _frames(self, warn: bool = False) -> Iterator[AudioFrame]:
        """Decoded frames of all links of the file, one after the other."""
        made, damages, why = 0, 0, ""
        with ExitStack() as open_files:
            for link in self._links(open_files):
                with open_media(link, name=self.name, advice=self.advice, error=AudioError) as container:
                    if not container.streams.audio:
                        raise AudioError(f"{self.name} holds no sound. Give a file with speech in it (wav, mp3, mp4).")
                    if container.streams.audio[0].codec_context is None:
                        raise AudioError(f"{self.name} is in a coding that FFmpeg does not know. {self.advice}")
                    for frame in _decoded(container):
                        if isinstance(frame, str):
                            damages, why = damages + 1, frame
                            continue
                        self._check(frame)
                        made += 1
                        yield frame
        if damages and not made:
            raise AudioError(f"{self.name} cannot be decoded as audio ({why}). {self.advice}")
        if damages and warn:
            logger.warning("%s is damaged (%s); what can be decoded of it is used.", self.name, why)

    def _check(self, frame: AudioFrame) -> None:
        low, high = RATES
        if not low <= frame.sample_rate <= high:
            raise AudioError(
                f"{self.name} says that it has {frame.sample_rate} samples a second; sound has {low} to {high}. "
                f"{self.advice}"
            )

    def _links(self, open_files: ExitStack) -> Iterator[str | Path | BinaryIO | io.RawIOBase]:
        """The file, or the parts of an Ogg file that was joined of several: FFmpeg decodes the first of them alone."""
        if not isinstance(self.source, str | Path):
            self.source.seek(0)
            yield self.source
            return
        if not Path(self.source).is_file():
            raise AudioError(f"There is no audio file at {self.source}. Check the path.")
        try:
            file = open_files.enter_context(open(self.source, "rb"))  # noqa: SIM115 - the stack closes it
        except OSError as error:
            raise AudioError(f"{self.name} cannot be read ({reason(error)}). {self.advice}") from error
        starts = ogg_links(file)
        if len(starts) < 2:
            yield self.source
            return
        for start, end in zip(starts, [*starts[1:], os.fstat(file.fileno()).st_size], strict=True):
            yield _Part(file, start, end)


def has_sound(source: str | Path | BinaryIO, *, name: str = "", advice: str = ADVICE) -> bool:
    """Whether a file holds a stream of sound.

    Raises:
        AudioError: if it cannot be opened.
    """
    if not isinstance(source, str | Path):
        source.seek(0)
    with open_media(source, name=name, advice=advice, error=AudioError) as container:
        return bool(container.streams.audio)


def _decoded(container: InputContainer) -> Iterator[AudioFrame | str]:
    """Frames of the first sound, and in the place of what is damaged a word about it."""
    import av
    import av.error

    stream = container.streams.audio[0]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except decoding_errors() as error:
            yield reason(error)
            return
        if packet is None:
            return
        try:
            yield from (frame for frame in packet.decode() if frame.samples)
        except decoding_errors() as error:
            if not isinstance(error, av.error.EOFError):
                yield reason(error)


class _Converter:
    """Turns frames of one format into blocks of the wanted channels and rate."""

    def __init__(self, frame: AudioFrame, channels: int, rate: int) -> None:
        import av

        self._format = _format(frame)
        self._rate, self._channels = rate, channels
        # Packed samples: FFmpeg hands out no more than eight planes.
        layout = "mono" if channels == 1 else "stereo"
        self._resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
        self._mixed = 0
        if not _has_places(frame):
            self._mix(frame)

    def takes(self, frame: AudioFrame) -> bool:
        """Whether the frame has this converter's format."""
        return _format(frame) == self._format

    def convert(self, frame: AudioFrame) -> Iterator[Tensor]:
        """Blocks for a frame; some of it may be held back."""
        import av
        import av.error

        frame.pts = None  # gaps between time stamps are no silence: the samples are counted
        if not self._mixed:
            try:
                yield from self._blocks(self._resampler.resample(frame))
                return
            except (ValueError, av.error.PatchWelcomeError):  # a layout that FFmpeg cannot mix; the former by any av
                self._mix(frame)
        yield from self._blocks(self._resampler.resample(frame))

    def finish(self) -> Iterator[Tensor]:
        """What was held back."""
        return self._blocks(self._resampler.resample(None))

    def _mix(self, frame: AudioFrame) -> None:
        import av

        self._mixed = frame.layout.nb_channels
        self._resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self._rate)

    def _blocks(self, frames: list[AudioFrame]) -> Iterator[Tensor]:
        for frame in frames:
            samples = torch.from_numpy(_packed(frame, self._mixed or self._channels))
            if self._mixed:
                samples = samples.mean(0, keepdim=True).expand(self._channels, -1)
            yield samples.contiguous()


def _packed(frame: AudioFrame, channels: int) -> np.ndarray:
    return frame.to_ndarray().reshape(-1, channels).T.copy()


def _format(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _has_places(frame: AudioFrame) -> bool:
    """Whether the channels' places are known (``5.1``), or their number alone (``9 channels``)."""
    return frame.layout.nb_channels <= 2 or not frame.layout.name.endswith("channels")


def ogg_links(file: BinaryIO) -> list[int]:
    """Where the links of a chained Ogg file begin; empty for another file.

    A page says in its header whether it begins a stream (RFC 3533); one that does so after others did not begins
    a link.
    """
    starts: list[int] = []
    offset, within = 0, False
    while True:
        file.seek(offset)
        header = file.read(_PAGE_HEADER)
        if len(header) < _PAGE_HEADER or header[:4] != b"OggS":
            return starts
        begins = bool(header[5] & 2)
        if begins and (within or not starts):
            starts.append(offset)
        within = not begins
        offset += _PAGE_HEADER + header[26] + sum(file.read(header[26]))


class _Part(io.RawIOBase):
    """Some bytes of an open file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._end, self._at = file, start, end, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer from where the part stands."""
        room = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(room), self._end - self._start - self._at)))
        room[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end - self._start}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Where the part stands."""
        return self._at
