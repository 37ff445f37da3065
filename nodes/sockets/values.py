"""What travels on the pack's own sockets beside the core's values. All immutable: ComfyUI caches and shares outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...mcdm_core.media.audio import Audio

if TYPE_CHECKING:
    from ...mcdm_core.pipeline.audio import AudioEmbedding


@dataclass(frozen=True)
class EmbeddedSound:
    """A voice ready for the model, with the sound as it was, which goes into the video.

    Attributes:
        embedding: ``mcdm_core.pipeline.AudioEmbedding``.
        audio: the segment that was embedded, at its own rate and channels.
        fps: of the video to be made.
    """

    embedding: AudioEmbedding
    audio: Audio
    fps: float

    @property
    def num_frames(self) -> int:
        """Number of frames of the whole video."""
        return int(self.embedding.num_frames)
