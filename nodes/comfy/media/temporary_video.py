"""A video in ComfyUI's temporary folder that can be stopped at any frame. Imports PyAV: import it when a node runs."""

from __future__ import annotations

from types import TracebackType

from ....mcdm_core.media.video_writer import VideoWriter
from ..interruption import check_interrupt


class TemporaryVideoWriter(VideoWriter):
    """A writer whose file nobody keeps before it is whole.

    The encoder holds back a dozen frames or more and needs seconds for them when they are large. So its end can be
    interrupted between two of them. Where the node has failed or was stopped they are given up with the file.
    """

    def close(self, *, finished: bool = True) -> None:
        """Finish the file; a cancel point at every frame."""
        if not self._closed and self.frames_written:
            for packet in self._video.codec_context.encode_lazy(None):
                packet.stream = self._video
                self._container.mux(packet)
                check_interrupt()
            self._video = _Flushed()  # pyright: ignore[reportAttributeAccessIssue] stands in for the stream
        super().close(finished=finished)

    def discard(self) -> None:
        """Delete the file as it is."""
        if not self._closed:
            self._closed = True
            self._container.close()
        self.part.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise


class _Flushed:
    """A stream that has given all its packets."""

    def encode(self, _: None) -> list[None]:
        return []
