"""Dub Video: a new voice for an existing video, streamed to disk clip by clip."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..mcdm_core.errors import MediaError
from ..mcdm_core.pipeline.run.run_folder import RunFolder
from ..mcdm_core.pipeline.run.run_key import run_key
from .comfy.interruption import StoppableTorch, check_interrupt, stoppable
from .comfy.media import media_bridge
from .comfy.media.temporary_files import video_result
from .comfy.media.workflow_metadata import workflow_metadata
from .comfy.models.working_memory import make_room, working_bytes
from .comfy.page.node_run import NodeRun
from .comfy.page.notes import note
from .comfy.page.stop_requests import STOP_REQUESTS
from .jobs.video_job import VideoJob, run_path
from .loaders import video_from_file
from .sockets import inputs
from .sockets.sampling_settings import PictureSettings
from .sockets.schema import advanced, schema

if TYPE_CHECKING:
    from comfy_api.input import AudioInput, VideoInput
    from torch import Tensor

    from ..mcdm_core.diffusion.sampling import Callback
    from ..mcdm_core.pipeline.dubbing import DubbedClip
    from ..mcdm_core.pipeline.memory import MotionMemory
    from .comfy.models.model_patcher import LoadedModel


class MCDMDubVideo(io.ComfyNode):
    """The same video with its mouth spoken anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 0, "min": 0, "max": 16384} | advanced()
        place = "The face where it is first seen, in pixels; all four 0: it is found."
        return schema(
            "MCDMDubVideo",
            "Dub Video",
            description="Speaks a video's mouth anew: its frames, head and eyes stay, the lips follow the new voice.",
            search_aliases=["lip sync video", "dubbing", "video to video", "translate video"],
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                io.Audio.Input("audio", tooltip="The new voice; cut or filled up with silence to the video's length."),
                io.Video.Input("video", optional=True, tooltip="The video of a speaking person, from Load Video."),
                io.Image.Input("images", optional=True, tooltip="Its frames instead of a VIDEO."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=60.0,
                    step=1.0,
                    tooltip="Frames a second of 'images'; a video keeps its own rate.",
                    **advanced(),
                ),
                inputs.steps(),
                inputs.seed(),
                io.Int.Input(
                    "face_number", default=1, min=1, max=32, tooltip="Which of several faces, the largest first."
                ),
                io.Int.Input("box_left", tooltip=place, **side),
                io.Int.Input("box_top", tooltip=place, **side),
                io.Int.Input("box_right", tooltip=place, **side),
                io.Int.Input("box_bottom", tooltip=place, **side),
                io.String.Input(
                    "filename_prefix", default="mcdm/dub", tooltip="Folder and name under output for the clips."
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    tooltip="Take over clips of an earlier run with the very same inputs.",
                    **advanced(),
                ),
            ],
            outputs=[io.Video.Output("out_video", display_name="video", tooltip="The dubbed video, on disk.")],
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
        audio: AudioInput,
        fps: float,
        steps: int,
        seed: int,
        face_number: int,
        box_left: int,
        box_top: int,
        box_right: int,
        box_bottom: int,
        filename_prefix: str,
        resume: bool,
        video: VideoInput | None = None,
        images: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..mcdm_core.pipeline.dubbing import CRF, dub, fitted_sound, prepare_dubbing

        if video is None and images is None:
            raise MediaError("Nothing to dub: connect a VIDEO to 'video' or frames to 'images'.")
        if video is not None:
            fps = media_bridge.video_rate(video)
        run_of_node, voice = NodeRun.of(cls), media_bridge.audio_to_core(audio)
        pipeline = model.ready(working_bytes(model.pipeline))
        pictures = PictureSettings.of(pipeline, steps, 0.0)
        box = (box_left, box_top, box_right, box_bottom)

        def frames() -> Iterator[Tensor]:
            return _frames(video, images, fps)

        with StoppableTorch():
            plan = prepare_dubbing(
                pipeline, frames, fps, voice, box=box if any(box) else None, number=face_number, seed=seed
            )
        lost = int((~plan.track.found).sum())
        if lost:
            note(run_of_node, f"{lost} of {plan.frames} frames do not show the face; they stay as they are.")
        seconds = plan.frames / fps
        if voice.duration > seconds + 1 / fps:
            note(run_of_node, f"The voice lasts {voice.duration:.1f} s, the video {seconds:.1f} s; the rest is cut.")
        sound = fitted_sound(voice, seconds)
        first = next(frames())
        key = run_key(
            pipeline.fingerprint,
            pipeline.numerics,
            first,
            plan.track.squares,
            plan.track.landmarks,
            sound,
            fps,
            pictures,
            seed,
            CRF,
        )

        def clips(memory: MotionMemory, start: int, callback: Callback) -> Iterator[DubbedClip]:
            made = dub(
                pipeline, plan, frames(), memory=memory, start_frame=start, callback=callback, **pictures.arguments()
            )
            return stoppable(made)

        with RunFolder(run_path(filename_prefix, key), resume=resume, crf=CRF) as run:
            job = VideoJob(
                run_of_node,
                pipeline,
                sound,
                fps,
                plan.frames,
                (first.shape[-1], first.shape[-2]),
                run,
                functools.partial(make_room, model),
            )
            path = job.make(plan.memory, clips, pictures.steps, workflow_metadata(cls))
        return io.NodeOutput(video_from_file(path), ui=video_result(path, "output"))


def _frames(video: VideoInput | None, images: Tensor | None, fps: float) -> Iterator[Tensor]:
    """The video's frames [3, h, w] at its rate, one at a time."""
    if video is not None:
        chunks = media_bridge.iterate_video(video)
    elif images is not None:
        chunks = (media_bridge.image_to_frames(image[None], "images") for image in images)
    else:
        raise MediaError("Nothing to dub: connect a VIDEO to 'video' or frames to 'images'.")
    for chunk in chunks:
        check_interrupt()
        yield from chunk
