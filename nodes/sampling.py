"""Sample Clip and Sample Video: from motion and memory to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..mcdm_core.errors import MCDMError
from ..mcdm_core.pipeline.run_folder import RunFolder, run_key
from . import inputs
from .comfy import media_bridge
from .comfy.interruption import check_interrupt
from .comfy.player_events import WholeVideoPlayer
from .comfy.progress import StepProgress, send_event
from .comfy.stop_requests import STOP_REQUESTS
from .comfy.temporary_files import temporary_video, video_result
from .comfy.working_memory import working_bytes
from .curves import player_curves
from .loaders import video_from_file
from .schema import EmbeddedAudio, Memory, Motion, schema
from .video_job import VideoJob


class MCDMSampleClip(io.ComfyNode):
    """One clip; memory in, memory out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMSampleClip",
            "Sample Clip",
            description="Makes the next clip of a video (16 frames). Chain several by their memory.",
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                inputs.reference(),
                Motion.Input("motion", tooltip="Motion of the whole voice, from Predict Motion or Edit Motion."),
                Memory.Input("memory", tooltip="From Start Motion Memory or the previous Sample Clip."),
                io.Int.Input(
                    "clip_index",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Which clip of the motion; 0 is the first. The memory does not change it.",
                ),
                inputs.steps(),
                inputs.guidance(),
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
        node = str(cls.hidden.unique_id)
        progress = StepProgress(steps, node)
        pipeline = model.ready(working_bytes(model.pipeline))
        piece = motion[clip_index * size : (clip_index + 1) * size]
        clip, after = pipeline.sample_clip(
            reference, piece, memory, steps=steps, guidance=guidance, callback=progress.callback(0, steps)
        )
        progress.show(clip.frames[-1])
        path = _write_clip(node, clip, motion.fps)
        latents = clip.latents.reshape(-1, *clip.latents.shape[-3:]).cpu()
        images = media_bridge.frames_to_image(clip.frames)
        return io.NodeOutput(images, {"samples": latents}, after, ui=video_result(path))


def _write_clip(node: str, clip: Any, fps: float) -> Path:
    """Write a clip to the temporary folder, for the player and the history; a motion has no sound."""
    from ..mcdm_core.media.video_writer import VideoWriter

    frames = clip.frames
    count, _, height, width = frames.shape
    path = temporary_video("mcdm_clip")
    player = WholeVideoPlayer(node, (width, height), count, fps)
    with VideoWriter(path, width, height, fps) as writer:
        writer.write(frames)
    player.finish(path, count, player_curves(clip.motion, count))
    return path


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
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                inputs.reference(),
                EmbeddedAudio.Input("audio", tooltip="From Embed Audio."),
                Motion.Input("motion", optional=True, tooltip="Motion made or edited before; else it is predicted."),
                Memory.Input("memory", optional=True, tooltip="Continue from here; else a new video begins."),
                inputs.steps(),
                inputs.guidance(),
                inputs.motion_steps(),
                inputs.motion_guidance(),
                inputs.temperature(),
                inputs.seed(),
                io.String.Input(
                    "filename_prefix", default="mcdm/video", tooltip="Folder and name under output for the clips."
                ),
                io.Boolean.Input(
                    "resume", default=True, tooltip="Take over clips of an earlier run with the very same inputs."
                ),
                inputs.frames_out(
                    "What 'images' holds. All frames of a long video need much memory; the VIDEO needs none."
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The face crops with sound, on disk."),
                io.Image.Output("images", display_name="images", tooltip="The last frame, or all."),
                Memory.Output("out_memory", display_name="memory", tooltip="To continue the video."),
                Motion.Output("out_motion", display_name="motion", tooltip="The video's motion, to plot or edit it."),
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
            pipeline.fingerprint, pipeline.numerics, reference.crop, audio.audio, audio.fps, settings, begin.tensors(),
            begin.seed, begin.frame_index, begin.clip_index, frames, motion,
        )  # fmt: skip
        run = RunFolder(_run_path(filename_prefix, key), resume=resume)
        job = VideoJob(node, pipeline, reference, audio, frames, run)
        STOP_REQUESTS.begin(node)
        stopped = False
        try:
            stopped = job.sample(begin, motion, settings)
            path = run.join(audio.fps, audio.audio, between=check_interrupt)
            send_event("done", job.facts(path) | {"frames": run.frames, "fps": audio.fps, "stopped": stopped})
        except BaseException as error:  # an interruption is no Exception on newer ComfyUI
            job.report_failure(error)
            raise
        finally:
            STOP_REQUESTS.end(node, stopped=stopped)
        if frames_out == inputs.LAST_FRAME:
            pictures = media_bridge.last_frames(video_from_file(run.clip_path(len(run.clips) - 1)), 1)
        else:
            pictures = media_bridge.all_frames(video_from_file(path))
        return io.NodeOutput(
            video_from_file(path),
            media_bridge.frames_to_image(pictures),
            job.memory,
            run.motion(),
            ui=video_result(path, "output"),
        )


def _run_path(prefix: str, key: str) -> Path:
    """The folder of a run under the output folder; ComfyUI's own check keeps the prefix inside."""
    import folder_paths

    folder, name, _, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(folder) / f"{name}_{key}"
