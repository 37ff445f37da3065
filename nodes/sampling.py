"""Sample Clip and Sample Video: from motion and memory to pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..mcdm_core.errors import MCDMError
from . import media_bridge
from .curves import player_curves
from .loaders import video_from_file
from .player_events import show_whole_video
from .progress import StepProgress, check_interrupt, send_event
from .run_folder import RunFolder, run_key
from .schema import (
    EmbeddedAudio,
    Memory,
    Motion,
    guidance_input,
    model_input,
    motion_steps_input,
    reference_input,
    schema,
    seed_input,
    steps_input,
    temperature_input,
)
from .stop_requests import STOP_REQUESTS
from .temporary_files import temporary_video
from .working_memory import working_bytes

logger = logging.getLogger(__name__)

LAST_FRAME, ALL_FRAMES = "last frame", "all frames"


class MCDMSampleClip(io.ComfyNode):
    """One clip; memory in, memory out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMSampleClip",
            "Sample Clip",
            description="Makes the next clip of a video (16 frames). Chain several by their memory.",
            inputs=[
                model_input(),
                reference_input(),
                Motion.Input("motion", tooltip="Motion of the whole voice, from Predict Motion or Edit Motion."),
                Memory.Input("memory", tooltip="From Start Motion Memory or the previous Sample Clip."),
                io.Int.Input(
                    "clip_index",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Which clip of the motion; 0 is the first. The memory does not change it.",
                ),
                steps_input(),
                guidance_input(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The clip's face crops."),
                io.Latent.Output("latent", display_name="latent", tooltip="Their latents."),
                Memory.Output("out_memory", display_name="memory", tooltip="For the next Sample Clip."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: Any, reference: Any, motion: Any, memory: Any, clip_index: int, steps: int, guidance: float
    ) -> io.NodeOutput:
        size = model.pipeline.config.clip_frames
        clips = -(-len(motion) // size)
        if clip_index >= clips:
            raise MCDMError(
                f"clip_index is {clip_index}, but the motion has {clips} clips (0 to {clips - 1}). Choose one of them."
            )
        progress = StepProgress(steps)
        pipeline = model.ready(working_bytes(model.pipeline))
        piece = motion[clip_index * size : (clip_index + 1) * size]
        clip, after = pipeline.sample_clip(
            reference, piece, memory, steps=steps, guidance=guidance, callback=progress.callback(0, steps)
        )
        progress.show(clip.frames[-1])
        _show_clip(str(cls.hidden.unique_id), clip, motion.fps)
        latents = clip.latents.reshape(-1, *clip.latents.shape[-3:]).cpu()
        images = media_bridge.frames_to_image(clip.frames)
        return io.NodeOutput(images, {"samples": latents}, after)


def _show_clip(node: str, clip: Any, fps: float) -> None:
    """Write a clip to the temporary folder, for the player alone; a motion has no sound."""
    from ..mcdm_core.media.video_writer import VideoWriter

    frames = clip.frames
    path = temporary_video("mcdm_clip")
    with VideoWriter(path, frames.shape[-1], frames.shape[-2], fps) as writer:
        writer.write(frames)
    size = (frames.shape[-1], frames.shape[-2])
    show_whole_video(node, path, size, frames.shape[0], fps, None, player_curves(clip.motion, frames.shape[0]))


class MCDMSampleVideo(io.ComfyNode):
    """The whole voice, streamed to disk clip by clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMSampleVideo",
            "Sample Video",
            description="Makes the whole video clip by clip, streaming to disk, so that its length is not limited by "
            "memory. A stopped run goes on where it ended.",
            search_aliases=["talking face", "lip sync", "long video"],
            inputs=[
                model_input(),
                reference_input(),
                EmbeddedAudio.Input("audio", tooltip="From Embed Audio."),
                Motion.Input("motion", optional=True, tooltip="Motion made or edited before; else it is predicted."),
                Memory.Input("memory", optional=True, tooltip="Continue from here; else a new video begins."),
                steps_input(),
                guidance_input(),
                motion_steps_input(),
                guidance_input("motion_guidance"),
                temperature_input(),
                seed_input(),
                io.String.Input(
                    "filename_prefix", default="mcdm/video", tooltip="Folder and name under output for the clips."
                ),
                io.Boolean.Input(
                    "resume", default=True, tooltip="Take over clips of an earlier run with the very same inputs."
                ),
                io.Combo.Input(
                    "frames_out",
                    options=[LAST_FRAME, ALL_FRAMES],
                    default=LAST_FRAME,
                    tooltip="What 'images' holds. All frames of a long video need much memory; the VIDEO needs none.",
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The face crops with sound, on disk."),
                io.Image.Output("images", display_name="images", tooltip="The last frame, or all."),
                Memory.Output("out_memory", display_name="memory", tooltip="To continue the video."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        """A video that was stopped early must not be taken from ComfyUI's cache for the whole one."""
        return STOP_REQUESTS.stops

    @classmethod
    def execute(
        cls,
        model: Any,
        reference: Any,
        audio: Any,
        steps: int,
        guidance: float,
        motion_steps: int,
        motion_guidance: float,
        temperature: float,
        seed: int,
        filename_prefix: str,
        resume: bool,
        frames_out: str,
        motion: Any = None,
        memory: Any = None,
    ) -> io.NodeOutput:
        node = str(cls.hidden.unique_id)
        pipeline = model.ready(working_bytes(model.pipeline))
        settings = {"steps": steps, "guidance": guidance}
        if motion is None:
            settings |= {"motion_steps": motion_steps, "motion_guidance": motion_guidance, "temperature": temperature}
        begin = memory if memory is not None else pipeline.start_memory(reference, seed=seed)
        frames = min(audio.num_frames, len(motion)) if motion is not None else audio.num_frames
        key = run_key(
            pipeline.fingerprint, reference.crop, audio.audio, audio.fps, settings, begin.tensors(),
            begin.seed, begin.frame_index, begin.clip_index, frames, motion,
        )  # fmt: skip
        run = RunFolder(_run_path(filename_prefix, key), resume=resume)
        job = _VideoJob(node, pipeline, reference, audio, frames, run)
        STOP_REQUESTS.begin(node)
        stopped = False
        try:
            stopped = job.sample(begin, motion, settings)
            path = run.join(audio.fps, audio.audio, between=check_interrupt)
            send_event("done", job.facts(path.name) | {"frames": run.frames, "fps": audio.fps, "stopped": stopped})
        except BaseException as error:  # an interruption is no Exception on newer ComfyUI
            job.report_failure(error)
            raise
        finally:
            STOP_REQUESTS.end(node, stopped=stopped)
        video = video_from_file(path)
        after = job.memory
        if frames_out == ALL_FRAMES:
            import torch

            frames_made = torch.cat(list(media_bridge.iterate_video(video)))
        else:
            frames_made = media_bridge.last_frames(video, 1)
        shown = ui.PreviewVideo([ui.SavedResult(path.name, job.subfolder, io.FolderType.output)])
        return io.NodeOutput(video, media_bridge.frames_to_image(frames_made), after, ui=shown)


def _run_path(prefix: str, key: str) -> Path:
    """The folder of a run under the output folder; ComfyUI's own check keeps the prefix inside."""
    import folder_paths

    folder, name, _, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{key}"


class _VideoJob:
    """One run of Sample Video: clips to disk, progress and events to the browser."""

    def __init__(self, node: str, pipeline: Any, reference: Any, audio: Any, frames: int, run: RunFolder) -> None:
        import folder_paths

        self.node, self.pipeline, self.reference, self.audio = node, pipeline, reference, audio
        self.frames, self.run = frames, run
        self.clip_frames = int(pipeline.config.clip_frames)
        self.clips = -(-frames // self.clip_frames)
        self.subfolder = run.path.relative_to(folder_paths.get_output_directory()).as_posix()
        self.memory: Any = None

    def facts(self, filename: str) -> dict[str, Any]:
        """The part of an event that says which node and file it is about."""
        return {"node": self.node, "filename": filename, "subfolder": self.subfolder, "type": "output"}

    def sample(self, memory: Any, motion: Any, settings: dict[str, Any]) -> bool:
        """Make the clips that are not there yet; returns whether the user ended the run early."""
        from ..mcdm_core.memory import MotionMemory

        taken = len(self.run.clips)
        if taken:
            memory = MotionMemory.load(self.run.memory_path(taken), fingerprint=self.pipeline.fingerprint)
        self.memory = memory
        self._announce(taken)
        progress = StepProgress(self.clips * settings["steps"])
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
            done = self.run.add(frames, self.audio.fps, sound, curves, clip.memory.save)
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
            self.facts(clip.filename)
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
        send_event("failed", {"node": self.node, "reason": reason, "kept_clips": kept, "subfolder": self.subfolder})
