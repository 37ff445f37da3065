"""One run of Sample Video: clips to disk, progress and events to the browser."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..mcdm_core.pipeline.run_folder import RunFolder
from .comfy import media_bridge
from .comfy.interruption import check_interrupt
from .comfy.progress import StepProgress, send_event
from .comfy.stop_requests import STOP_REQUESTS
from .comfy.temporary_files import place_of
from .curves import player_curves

logger = logging.getLogger(__name__)


class VideoJob:
    """One run of Sample Video: clips to disk, progress and events to the browser."""

    def __init__(self, node: str, pipeline: Any, reference: Any, audio: Any, frames: int, run: RunFolder) -> None:
        self.node, self.pipeline, self.reference, self.audio = node, pipeline, reference, audio
        self.frames, self.run = frames, run
        self.clip_frames = int(pipeline.config.clip_frames)
        self.clips = -(-frames // self.clip_frames)
        self.memory: Any = None

    def facts(self, path: Path) -> dict[str, Any]:
        """The part of an event that says which node and file it is about."""
        return {"node": self.node} | place_of(path, "output")

    def sample(self, memory: Any, motion: Any, settings: dict[str, Any]) -> bool:
        """Make the clips that are not there yet; returns whether the user ended the run early."""
        from ..mcdm_core.pipeline.memory import MotionMemory

        taken = len(self.run.clips)
        if taken:
            memory = MotionMemory.load(self.run.memory_path(taken), fingerprint=self.pipeline.fingerprint)
        self.memory = memory
        self._announce(taken)
        progress = StepProgress(self.clips * settings["steps"], self.node)
        progress.update(taken * settings["steps"])
        remaining = self.frames - self.run.frames
        if remaining <= 0:
            return False
        started, made = time.perf_counter(), 0
        for clip in self._clips(memory, motion, settings, self._callback(progress, settings["steps"])):
            frames = clip.frames[: self.frames - self.run.frames]
            curves = player_curves(clip.motion, frames.shape[0])
            first = self.run.frames
            sound = media_bridge.audio_of_frames(self.audio.audio, first, frames.shape[0], self.audio.fps)
            done = self.run.add(frames, self.audio.fps, sound, curves, clip.memory, clip.motion[: frames.shape[0]])
            self.memory = clip.memory
            made += frames.shape[0]
            speed = made / (time.perf_counter() - started)
            self._send_clip(done, sound, speed)
            progress.show(frames[-1])
            progress.update(len(self.run.clips) * settings["steps"])
            if self.run.frames >= self.frames:
                break
            if STOP_REQUESTS.asked(self.node):
                logger.info("MCDM stops after clip %d of %d, as asked; it is kept.", len(self.run.clips), self.clips)
                return True
        return False

    def _clips(self, memory: Any, motion: Any, settings: dict[str, Any], callback: Any) -> Iterator[Any]:
        """Clips from where the run stands: with predicted motion, or with the motion that was given."""
        if motion is None:
            yield from self.pipeline.generate(
                self.reference, self.audio.embedding, memory, start_frame=self.run.frames, callback=callback, **settings
            )
            return
        for first in range(self.run.frames, self.frames, self.clip_frames):
            piece = motion[first : min(first + self.clip_frames, self.frames)]
            clip, memory = self.pipeline.sample_clip(self.reference, piece, memory, callback=callback, **settings)
            yield clip

    def _callback(self, progress: StepProgress, steps: int) -> Any:
        def report(done: int, total: int, latents: Any = None) -> None:
            check_interrupt()
            progress.update(len(self.run.clips) * steps + round(steps * done / max(1, total)))

        return report

    def _announce(self, taken: int) -> None:
        size = int(self.pipeline.config.image_size)
        peaks = media_bridge.waveform_peaks(self.audio.audio, self.frames, self.audio.fps)
        start = {"node": self.node, "clips": self.clips, "frames": self.frames, "fps": self.audio.fps}
        start |= {"clip_frames": self.clip_frames, "width": size, "height": size, "peaks": peaks, "resumed": taken}
        send_event("start", start)
        for clip in self.run.clips:
            sound = media_bridge.audio_of_frames(self.audio.audio, clip.first_frame, clip.frames, self.audio.fps)
            self._send_clip(clip, sound, None)

    def _send_clip(self, clip: Any, sound: Any, speed: float | None) -> None:
        left = self.frames - clip.first_frame - clip.frames
        send_event(
            "clip",
            self.facts(self.run.clip_path(clip.index))
            | {
                "clip": clip.index,
                "clips": self.clips,
                "first_frame": clip.first_frame,
                "frames": clip.frames,
                "fps": self.audio.fps,
                "frames_per_second": round(speed, 2) if speed else None,
                "eta": round(left / speed, 1) if speed else None,
                "curves": clip.curves,
                "peaks": media_bridge.waveform_peaks(sound, clip.frames, self.audio.fps),
            },
        )

    def report_failure(self, error: BaseException) -> None:
        """Tell the browser what is kept."""
        reason = "interrupted" if type(error).__name__ == "InterruptProcessingException" else "error"
        kept = len(self.run.clips)
        if kept:
            logger.info("MCDM keeps %d finished clips in %s; run again to go on.", kept, self.run.path)
        subfolder = place_of(self.run.clip_path(0), "output")["subfolder"]
        send_event("failed", {"node": self.node, "reason": reason, "kept_clips": kept, "subfolder": subfolder})
