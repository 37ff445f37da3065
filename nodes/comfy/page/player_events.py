"""Events for nodes that show one video in the player when it is whole: a clip, an assembled or upscaled video."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ....mcdm_core.media.audio import Audio
from ..media.media_bridge import PEAKS_PER_FRAME, waveform_peaks
from ..media.temporary_files import place_of
from .curves import NAMES
from .node_run import NodeRun, failure_reason
from .stop_requests import STOP_REQUESTS

SECONDS_BETWEEN_REPORTS = 0.5


class WholeVideoPlayer:
    """The player of a node whose video can be played at its end; until then it shows frames, speed and time left.

    A context manager: while it is open the node can be asked to stop and keep, and a failure is told.

    Args:
        run: of the node.
        size: width and height.
        frames: expected number.
        audio: the sound, or None.
        stoppable: whether "Stop and keep" does something there.
    """

    def __init__(
        self,
        run: NodeRun,
        size: tuple[int, int],
        frames: int,
        fps: float,
        audio: Audio | None = None,
        *,
        stoppable: bool = True,
    ) -> None:
        self.run, self.frames, self.fps, self.audio = run, frames, fps, audio
        self._stoppable = stoppable
        self._started = self._told = time.perf_counter()
        self._stopped = False
        self._start = {"clips": 1, "frames": frames, "fps": fps, "peaks": self._peaks(frames), "resumed": 0}
        self._start |= {"clip_frames": frames, "width": size[0], "height": size[1], "stoppable": stoppable}

    def __enter__(self) -> WholeVideoPlayer:
        # First the request can be made, then the page shows the button: it may be pressed before the next line.
        if self._stoppable:
            STOP_REQUESTS.begin(self.run)
        self.run.send("start", self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stoppable:
            STOP_REQUESTS.end(self.run, stopped=self._stopped)
        if error is not None:
            self.run.send("failed", {"reason": failure_reason(error), "kept_clips": 0, "subfolder": ""})

    def progress(self, done: int) -> None:
        """Tell how many frames are done, how fast and how long the rest takes; at most twice a second."""
        now = time.perf_counter()
        if now - self._told < SECONDS_BETWEEN_REPORTS:
            return
        self._told = now
        speed = done / (now - self._started)
        eta = max(0, self.frames - done) / speed if speed else None
        counts = {"done": done, "frames": self.frames, "frames_per_second": round(speed, 2)}
        self.run.send("progress", counts | {"eta": None if eta is None else round(eta, 1)})

    def stop_asked(self) -> bool:
        """Whether the user wants the node to end here and keep what is there."""
        self._stopped = self._stoppable and STOP_REQUESTS.asked(self.run)
        return self._stopped

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
        common = {"frames": frames, "fps": self.fps}
        clip: dict[str, Any] = {"clip": 0, "clips": 1, "first_frame": 0, "frames_per_second": None, "eta": 0.0}
        clip |= {"peaks": self._peaks(frames), "curves": curves or {name: [0.0] * frames for name in NAMES}}
        self.run.send("clip", common | clip | place)
        self.run.send("done", common | {"stopped": self._stopped} | place)
