"""Sample Clip and Sample Video: from motion and memory to pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..mcdm_core.errors import MCDMError
from ..mcdm_core.pipeline.run.run_folder import RunFolder
from ..mcdm_core.pipeline.run.run_key import run_key
from .comfy.interruption import check_interrupt
from .comfy.media import media_bridge
from .comfy.media.temporary_files import temporary_video, video_result
from .comfy.media.workflow_metadata import workflow_metadata
from .comfy.models.working_memory import make_room, working_bytes
from .comfy.page.curves import player_curves
from .comfy.page.node_run import NodeRun
from .comfy.page.player_events import WholeVideoPlayer
from .comfy.page.progress import StepProgress
from .comfy.page.stop_requests import STOP_REQUESTS
from .jobs.video_job import VideoJob, run_path
from .loaders import video_from_file
from .sockets import inputs
from .sockets.sampling_settings import MotionSettings, PictureSettings
from .sockets.schema import EmbeddedAudio, Memory, Motion, advanced, schema

if TYPE_CHECKING:
    from ..mcdm_core.diffusion.sampling import Callback
    from ..mcdm_core.motion.motion import Motion as FaceMotion
    from ..mcdm_core.pipeline.memory import MotionMemory
    from ..mcdm_core.pipeline.reference import Reference as CoreReference
    from ..mcdm_core.pipeline.sampling import Clip
    from .comfy.models.model_patcher import LoadedModel
    from .comfy.models.pipeline_loading import ManagedPipeline
    from .sockets.values import EmbeddedSound


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
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        motion: FaceMotion,
        memory: MotionMemory,
        clip_index: int,
        steps: int,
        guidance: float,
    ) -> io.NodeOutput:
        size = model.pipeline.config.clip_frames
        clips = -(-len(motion) // size)
        if clip_index >= clips:
            raise MCDMError(
                f"clip_index is {clip_index}, but the motion has {clips} clips (0 to {clips - 1}). Choose one of them."
            )
        run = NodeRun.of(cls)
        pipeline = model.ready(working_bytes(model.pipeline))
        pictures = PictureSettings.of(pipeline, steps, guidance)
        progress = StepProgress(pictures.steps, run)
        piece = motion[clip_index * size : (clip_index + 1) * size]
        clip, after = pipeline.sample_clip(
            reference, piece, memory, callback=progress.callback(0, pictures.steps), **pictures.arguments()
        )
        progress.show(clip.frames[-1])
        path = _write_clip(run, clip, motion.fps)
        latents = clip.latents.reshape(-1, *clip.latents.shape[-3:]).cpu()
        images = media_bridge.frames_to_image(clip.frames)
        return io.NodeOutput(images, {"samples": latents}, after, ui=video_result(path))


def _write_clip(run: NodeRun, clip: Clip, fps: float) -> Path:
    """Write a clip to the temporary folder, for the player and the history; a motion has no sound."""
    from ..mcdm_core.media.video_writer import VideoWriter

    frames = clip.frames
    count, _, height, width = frames.shape
    path = temporary_video("mcdm_clip")
    with WholeVideoPlayer(run, (width, height), count, fps, stoppable=False) as player:
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
                    "resume",
                    default=True,
                    tooltip="Take over clips of an earlier run with the very same inputs.",
                    **advanced(),
                ),
                inputs.frames_out(
                    "What 'images' holds. All frames of a long video need much memory; the VIDEO needs none."
                ),
                inputs.expression(),
                inputs.head_movement(),
                inputs.blinks(),
                inputs.blink_rate(),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The face crops with sound, on disk."),
                io.Image.Output("images", display_name="images", tooltip="The last frame, or all."),
                Memory.Output("out_memory", display_name="memory", tooltip="To continue the video."),
                Motion.Output("out_motion", display_name="motion", tooltip="The video's motion, to plot or edit it."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        """A video that was stopped early must not be taken from ComfyUI's cache for the whole one."""
        return STOP_REQUESTS.stops

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        audio: EmbeddedSound,
        steps: int,
        guidance: float,
        motion_steps: int,
        motion_guidance: float,
        temperature: float,
        seed: int,
        filename_prefix: str,
        resume: bool,
        frames_out: str,
        motion: FaceMotion | None = None,
        memory: MotionMemory | None = None,
        expression: str = "",
        head_movement: float = 1.0,
        blinks: bool = True,
        blink_rate: float = 17.0,
    ) -> io.NodeOutput:
        moves = MotionSettings(
            motion_steps, motion_guidance, temperature, expression, head_movement, blinks, blink_rate
        )
        moves.check()
        pipeline = model.ready(working_bytes(model.pipeline))
        pictures = PictureSettings.of(pipeline, steps, guidance)
        begin = memory if memory is not None else pipeline.start_memory(reference, seed=seed)
        frames = min(audio.num_frames, len(motion)) if motion is not None else audio.num_frames
        # Inputs alone: what a network computed from them differs with the number of threads.
        place = [round(side) for side in (reference.transform.left, reference.transform.top, reference.transform.side)]
        key = run_key(
            pipeline.fingerprint,
            pipeline.numerics,
            reference.image,
            place,
            audio.audio,
            audio.fps,
            pictures,
            moves if motion is None else None,
            seed,
            memory and (memory.tensors(), memory.seed, memory.frame_index, memory.clip_index),
            frames,
            motion,
        )
        size = (pipeline.config.image_size, pipeline.config.image_size)

        def clips(after: MotionMemory, first: int, callback: Callback) -> Iterator[Clip]:
            return _clips(pipeline, reference, audio, begin, after, first, frames, motion, pictures, moves, callback)

        with RunFolder(run_path(filename_prefix, key), resume=resume) as run:
            job = VideoJob(
                NodeRun.of(cls),
                pipeline,
                audio.audio,
                audio.fps,
                frames,
                size,
                run,
                functools.partial(make_room, model),
            )
            path = job.make(begin, clips, pictures.steps, workflow_metadata(cls))
        if frames_out == inputs.LAST_FRAME:
            images = media_bridge.last_frames(video_from_file(run.clip_path(len(run.clips) - 1)), 1)
        else:
            images = media_bridge.all_frames(video_from_file(path))
        return io.NodeOutput(
            video_from_file(path),
            media_bridge.frames_to_image(images),
            job.memory,
            run.motion(),
            ui=video_result(path, "output"),
        )


def _clips(
    pipeline: ManagedPipeline,
    reference: CoreReference,
    audio: EmbeddedSound,
    begin: MotionMemory,
    memory: MotionMemory,
    first: int,
    frames: int,
    motion: FaceMotion | None,
    pictures: PictureSettings,
    moves: MotionSettings,
    callback: Callback,
) -> Iterator[Clip]:
    """Clips from frame ``first`` on: with motion that was given or is changed as a whole, or predicted on the way.

    Args:
        begin: the memory at the video's beginning; memory: the one to go on from.
    """
    if motion is None and moves.edited:
        # From the beginning also after a stop: what was predicted before is part of what follows.
        motion = moves.predict(pipeline, reference, audio.embedding, begin, callback=lambda *_: check_interrupt())
    if motion is None:
        yield from pipeline.generate(
            reference,
            audio.embedding,
            memory,
            start_frame=first,
            callback=callback,
            **moves.arguments("motion_"),
            **pictures.arguments(),
        )
        return
    size = pipeline.config.clip_frames
    for at in range(first, frames, size):
        piece = motion[at : min(at + size, frames)]
        clip, memory = pipeline.sample_clip(reference, piece, memory, callback=callback, **pictures.arguments())
        yield clip
