"""A finished video of the same portrait, into whose frames a second face is laid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ....mcdm_core.errors import MediaError
from ....mcdm_core.face.compositing.crop import add_change
from ....mcdm_core.media.audio import Audio, mix
from . import media_bridge

if TYPE_CHECKING:
    from comfy_api.input import VideoInput


class Background:
    """Frames for another face of the portrait to be laid into, in step with the frames that are made.

    Args:
        video: made from ``portrait`` [3, h, w]; fps: of the frames that are made.
    """

    def __init__(self, video: VideoInput, portrait: torch.Tensor, fps: float) -> None:
        self.portrait = portrait
        self._frames = media_bridge.frames_at_rate(video, fps)
        self._last: torch.Tensor | None = None

    def beneath(self, finished: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Finished frames [1, 3, h, w] in these frames; where the video has ended its last one stays.

        Raises:
            MediaError: if the video shows a picture of another size, or nothing.
        """
        for frame in finished:
            self._last = next(self._frames, self._last)
            if self._last is None:
                raise MediaError("The input 'background' has no frames. Connect another video.")
            yield add_change(self._fitted(self._last), frame, self.portrait.to(frame))

    def _fitted(self, frame: torch.Tensor) -> torch.Tensor:
        height, width = self.portrait.shape[-2:]
        # A video has even sides: an odd one was padded by a row or column.
        if not (0 <= frame.shape[-2] - height <= height % 2 and 0 <= frame.shape[-1] - width <= width % 2):
            raise MediaError(
                f"The input 'background' is {frame.shape[-1]}x{frame.shape[-2]} pixels, the portrait {width}x{height}. "
                "Connect the full picture that another Assemble Video made from the very same image."
            )
        return frame[None, :, :height, :width]


def mixed_sound(own: Audio | None, background: VideoInput) -> Audio | None:
    """The voice of the face that is laid in, together with the background's sound."""
    other = media_bridge.video_audio(background)
    if own is None or other is None:
        return own or other
    return mix(own, other)
