"""Events for nodes that show one video in the player when it is whole: a clip, an assembled or upscaled video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...mcdm_core.media.audio import Audio
from ..curves import NAMES
from .media_bridge import PEAKS_PER_FRAME, waveform_peaks
from .progress import send_event
from .temporary_files import place_of


class WholeVideoPlayer:
    """The player of a node whose video can be played at its end; until then it shows the latest frame.

    Args:
        node: execution id.
        size: width and height.
        frames: expected number.
        audio: the sound, or None.
    """

    def __init__(self, node: str, size: tuple[int, int], frames: int, fps: float, audio: Audio | None = None) -> None:
        self.node, self.fps, self.audio = node, fps, audio
        start = {"clips": 1, "frames": frames, "fps": fps, "peaks": self._peaks(frames), "resumed": 0}
        send_event("start", {"node": node, "clip_frames": frames, "width": size[0], "height": size[1]} | start)

    def _peaks(self, frames: int) -> list[float]:
        if self.audio is None:
            return [0.0] * (PEAKS_PER_FRAME * frames)
        return waveform_peaks(self.audio, frames, self.fps)

    def finish(self, path: Path, frames: int, curves: dict[str, list[float]] | None = None) -> None:
        """Play a video of the temporary folder.

        Args:
            curves: one number a frame each; zeros if there is no motion.
        """
        place = place_of(path)
        common = {"node": self.node, "frames": frames, "fps": self.fps}
        clip: dict[str, Any] = {"clip": 0, "clips": 1, "first_frame": 0, "frames_per_second": None, "eta": 0.0}
        clip |= {"peaks": self._peaks(frames), "curves": curves or {name: [0.0] * frames for name in NAMES}}
        send_event("clip", common | clip | place)
        send_event("done", common | {"stopped": False} | place)
