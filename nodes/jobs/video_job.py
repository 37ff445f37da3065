"""A video that is made clip by clip: clips to disk, progress and events to the browser."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...mcdm_core.errors import failures_told, is_out_of_memory
from ...mcdm_core.media.audio import Audio
from ...mcdm_core.pipeline.run.run_folder import RunFolder
from ..comfy.interruption import check_interrupt
from ..comfy.media import media_bridge
from ..comfy.media.temporary_files import place_of
from ..comfy.models.working_memory import ADVICE
from ..comfy.page.curves import player_curves
from ..comfy.page.node_run import NodeRun, failure_reason
from ..comfy.page.progress import StepProgress
from ..comfy.page.stop_requests import STOP_REQUESTS

if TYPE_CHECKING:
    from torch import Tensor

    from ...mcdm_core.diffusion.sampling import Callback
    from ...mcdm_core.pipeline.dubbing import DubbedClip
    from ...mcdm_core.pipeline.memory import MotionMemory
    from ...mcdm_core.pipeline.run.finished_clip import FinishedClip
    from ...mcdm_core.pipeline.sampling import Clip
    from ..comfy.models.pipeline_loading import ManagedPipeline


logger = logging.getLogger(__name__)

Clips = Callable[["MotionMemory", int, "Callback"], Iterator["Clip | DubbedClip"]]
"""From the memory to go on from, the first frame to make, and a callback (done, total, latents) to clips with
``frames``, ``motion`` and ``memory``."""


class VideoJob:
    """One run of a node that makes a video clip by clip.

    Args:
        node: which one; pipeline: of its model.
        audio: the whole sound; fps, frames, size (width, height): of the whole video.
        run: where its clips lie.
        make_room: frees memory where it does not suffice for a clip, which is then made once more.
    """

    def __init__(
        self,
        node: NodeRun,
        pipeline: ManagedPipeline,
        audio: Audio,
        fps: float,
        frames: int,
        size: tuple[int, int],
        run: RunFolder,
        make_room: Callable[[], None],
    ) -> None:
        self.node, self.pipeline, self.audio, self.fps = node, pipeline, audio, fps
        self.frames, self.size, self.run, self.make_room = frames, size, run, make_room
        self.clip_frames = int(pipeline.config.clip_frames)
        self.clips = -(-frames // self.clip_frames)
        self.memory: MotionMemory | None = None

    def make(self, memory: MotionMemory, clips: Clips, steps: int, metadata: dict[str, str]) -> Path:
        """Make the clips that are not there yet, and join them all.

        Args:
            memory: where the video begins; steps: of the progress bar a clip; metadata: tags of the joined video.

        Raises:
            whatever the clips raise; what is finished is kept, and the browser told. OutOfMemoryError: if memory does
            not suffice even after other models were unloaded.
        """
        STOP_REQUESTS.begin(self.node)
        stopped = False
        try:
            with failures_told(ADVICE, self._kept):
                stopped = self._sample(memory, clips, steps)
                path = self.run.join(self.fps, self.audio, between=check_interrupt, metadata=metadata)
            facts = {"frames": self.run.frames, "fps": self.fps, "stopped": stopped}
            self.node.send("done", facts | place_of(path, "output"))
        except BaseException as error:  # an interruption is no Exception on newer ComfyUI
            self._report_failure(error)
            raise
        finally:
            STOP_REQUESTS.end(self.node, stopped=stopped)
        return path

    def _sample(self, memory: MotionMemory, clips: Clips, steps: int) -> bool:
        """Make the clips; returns whether the user ended the run early."""
        from ...mcdm_core.pipeline.memory import MotionMemory

        taken = len(self.run.clips)
        if taken:
            memory = MotionMemory.load(self.run.memory_path(taken), fingerprint=self.pipeline.fingerprint)
        self.memory = memory
        self._announce(taken)
        progress = StepProgress(self.clips * steps, self.node)
        progress.update(taken * steps)
        failed_at = -1
        while self.run.frames < self.frames:
            try:
                return self._go_on(clips, progress, steps)
            except Exception as error:
                if not is_out_of_memory(error) or failed_at == len(self.run.clips):
                    raise
            # Out of the handler: the error's traceback holds what was allocated.
            failed_at = len(self.run.clips)
            logger.warning("MCDM: memory is short; other models are unloaded, clip %d is made again.", failed_at + 1)
            self.make_room()
        return False

    def _go_on(self, clips: Clips, progress: StepProgress, steps: int) -> bool:
        """Make clips from the last finished one on; returns whether the user ended the run early."""
        assert self.memory is not None
        started, made = time.perf_counter(), 0
        for clip in clips(self.memory, self.run.frames, self._callback(progress, steps)):
            frames = clip.frames[: self.frames - self.run.frames]
            curves = player_curves(clip.motion, frames.shape[0])
            first = self.run.frames
            sound = media_bridge.audio_of_frames(self.audio, first, frames.shape[0], self.fps)
            done = self.run.add(frames, self.fps, sound, curves, clip.memory, clip.motion[: frames.shape[0]])
            self.memory = clip.memory
            made += frames.shape[0]
            self._send_clip(done, sound, made / (time.perf_counter() - started))
            progress.show(frames[-1])
            progress.update(len(self.run.clips) * steps)
            if self.run.frames >= self.frames:
                break
            if STOP_REQUESTS.asked(self.node):
                logger.info("MCDM stops after clip %d of %d, as asked; it is kept.", len(self.run.clips), self.clips)
                return True
        return False

    def _kept(self) -> str:
        """What to tell of a failed run's clips."""
        kept = len(self.run.clips)
        return f"{kept} finished clips are kept in {self.run.path}: run the workflow again to go on." if kept else ""

    def _callback(self, progress: StepProgress, steps: int) -> Callback:
        def report(done: int, total: int, latents: Tensor | None = None) -> None:
            check_interrupt()
            progress.update(len(self.run.clips) * steps + round(steps * done / max(1, total)))

        return report

    def _announce(self, taken: int) -> None:
        peaks = media_bridge.waveform_peaks(self.audio, self.frames, self.fps)
        start = {"clips": self.clips, "frames": self.frames, "fps": self.fps, "stoppable": True, "resumed": taken}
        start |= {"clip_frames": self.clip_frames, "width": self.size[0], "height": self.size[1], "peaks": peaks}
        self.node.send("start", start)
        for clip in self.run.clips:
            sound = media_bridge.audio_of_frames(self.audio, clip.first_frame, clip.frames, self.fps)
            self._send_clip(clip, sound, None)

    def _send_clip(self, clip: FinishedClip, sound: Audio, speed: float | None) -> None:
        left = self.frames - clip.first_frame - clip.frames
        facts = {"clip": clip.index, "clips": self.clips, "first_frame": clip.first_frame, "frames": clip.frames}
        facts |= {"fps": self.fps, "curves": clip.curves}
        facts |= {"frames_per_second": None, "eta": None}
        if speed:
            facts |= {"frames_per_second": round(speed, 2), "eta": round(left / speed, 1)}
        facts |= {"peaks": media_bridge.waveform_peaks(sound, clip.frames, self.fps)}
        self.node.send("clip", facts | place_of(self.run.clip_path(clip.index), "output"))

    def _report_failure(self, error: BaseException) -> None:
        """Tell the browser what is kept."""
        kept = len(self.run.clips)
        if kept:
            logger.info("MCDM: %s", self._kept())
        subfolder = place_of(self.run.clip_path(0), "output")["subfolder"]
        facts = {"reason": failure_reason(error), "kept_clips": kept, "subfolder": subfolder}
        self.node.send("failed", facts)


def run_path(prefix: str, key: str) -> Path:
    """The folder of a run under the output folder; ComfyUI's own check keeps the prefix inside."""
    import folder_paths

    folder, name, _, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{key}"
