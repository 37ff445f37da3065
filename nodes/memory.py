"""Motion memory: begin it, continue a video, save it, load it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..mcdm_core.errors import MediaError, MemoryMismatchError
from .comfy.interruption import StoppableTorch
from .comfy.media import media_bridge
from .sockets import inputs
from .sockets.schema import Memory, schema

if TYPE_CHECKING:
    from comfy_api.input import VideoInput
    from torch import Tensor

    from ..mcdm_core.pipeline.memory import MotionMemory
    from ..mcdm_core.pipeline.reference import Reference as CoreReference
    from .comfy.models.model_patcher import LoadedModel
    from .comfy.models.pipeline_loading import ManagedPipeline


FOLDER = "mcdm_memory"
NONE_SAVED = "(none saved yet)"


def memory_folder() -> Path:
    """Where memories are saved: under the output folder, since ComfyUI empties its temporary one."""
    import folder_paths

    return Path(folder_paths.get_output_directory()) / FOLDER


def saved_memories() -> list[str]:
    """Names of the saved memories, relative to their folder."""
    folder = memory_folder()
    found = folder.rglob("*.safetensors") if folder.is_dir() else []
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return names or [NONE_SAVED]


class MCDMStartMemory(io.ComfyNode):
    """The memory of a video that has not begun."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMStartMemory",
            "Start Motion Memory",
            description="The memory at a video's start: the archive is the reference repeated, or further pictures of "
            "the person.",
            inputs=[
                inputs.model(),
                inputs.reference(),
                inputs.seed(),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Further pictures of the person, each with a face, of any size. Teeth, tongue and shut "
                    "lids are then theirs, and not invented. Of more than 16 some are taken.",
                ),
            ],
            outputs=[Memory.Output("memory", display_name="memory", tooltip="For Sample Clip or Sample Video.")],
        )

    @classmethod
    def execute(
        cls, model: LoadedModel, reference: CoreReference, seed: int, images: Tensor | None = None
    ) -> io.NodeOutput:
        pipeline = model.ready()
        with StoppableTorch():
            seen = [] if images is None else seen_in(pipeline, images)
            return io.NodeOutput(pipeline.start_memory(reference, seed=seed, seen=seen))


def seen_in(pipeline: ManagedPipeline, images: Tensor) -> list[CoreReference]:
    """Pictures of a person, an IMAGE, each with its face found; of many some, spread over all."""
    count = min(len(images), pipeline.config.archive_frames)
    some = images[[index * len(images) // count for index in range(count)]]
    return [pipeline.encode_reference(picture) for picture in media_bridge.image_to_frames(some, "images")]


class MCDMMemoryFromVideo(io.ComfyNode):
    """The memory after an existing video, real or generated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMMemoryFromVideo",
            "Motion Memory from Video",
            description="Continue an existing video: its last frames become the archive. The face must be where the "
            "reference has it.",
            search_aliases=["continue video", "extend video"],
            inputs=[
                inputs.model(),
                inputs.reference(),
                io.Video.Input("video", optional=True, tooltip="The video to continue; only its end is kept."),
                io.Image.Input("images", optional=True, tooltip="Its frames instead of a VIDEO."),
                inputs.seed(),
            ],
            outputs=[Memory.Output("memory", display_name="memory", tooltip="For Sample Clip or Sample Video.")],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        seed: int,
        video: VideoInput | None = None,
        images: Tensor | None = None,
    ) -> io.NodeOutput:
        pipeline = model.ready()
        count = pipeline.config.archive_frames
        with StoppableTorch():
            if video is not None:
                frames = media_bridge.last_frames(video, count)
            elif images is not None:
                frames = media_bridge.image_to_frames(images[-count:], "images")
            else:
                raise MediaError("Nothing to continue: connect a VIDEO to 'video' or frames to 'images'.")
            frames = crops_of(pipeline, reference, frames)
            return io.NodeOutput(pipeline.memory_from_frames(reference, frames, seed=seed))


def crops_of(pipeline: ManagedPipeline, reference: CoreReference, frames: Tensor) -> Tensor:
    """Face crops [f, 3, s, s] of frames that are either such crops or full pictures of the portrait's size.

    Raises:
        MediaError: for frames of any other shape, whose face could be anywhere.
    """
    import torch

    from ..mcdm_core.face.crops import resample_crop

    size = pipeline.config.image_size
    if tuple(frames.shape[-2:]) == (size, size):
        return frames
    transform = reference.transform
    height, width = frames.shape[-2:]
    # An odd portrait becomes even in a video.
    if abs(width - transform.image_width) <= 1 and abs(height - transform.image_height) <= 1:
        return torch.stack([resample_crop(frame, transform, size) for frame in frames])
    raise MediaError(
        f"The frames are {width}x{height} pixels; expected face crops of {size}x{size} or pictures of the portrait's "
        f"{transform.image_width}x{transform.image_height}. Encode a frame of this very video as the reference."
    )


class MCDMSaveMemory(io.ComfyNode):
    """Put a memory on disk, to go on another day."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMSaveMemory",
            "Save Motion Memory",
            description="Saves a motion memory under output/mcdm_memory. It names the model it belongs to.",
            is_output_node=True,
            inputs=[
                Memory.Input("memory", tooltip="From Sample Clip or Sample Video."),
                io.String.Input("filename_prefix", default="memory", tooltip="Beginning of the file's name."),
            ],
            outputs=[
                Memory.Output("out_memory", display_name="memory", tooltip="The same memory."),
                io.String.Output("file", display_name="file", tooltip="Its name, for Load Motion Memory."),
            ],
        )

    @classmethod
    def execute(cls, memory: MotionMemory, filename_prefix: str) -> io.NodeOutput:
        import folder_paths

        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            f"{FOLDER}/{filename_prefix}", folder_paths.get_output_directory()
        )
        path = Path(folder) / f"{name}_{counter:05d}_.safetensors"
        memory.save(path)
        return io.NodeOutput(memory, path.relative_to(memory_folder()).as_posix())


class MCDMLoadMemory(io.ComfyNode):
    """Take a saved memory up again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMLoadMemory",
            "Load Motion Memory",
            description="Loads a saved motion memory and refuses one that belongs to another model.",
            inputs=[
                inputs.model(),
                io.Combo.Input("file", options=saved_memories(), tooltip="A file in output/mcdm_memory."),
            ],
            outputs=[Memory.Output("memory", display_name="memory", tooltip="For Sample Clip or Sample Video.")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Takes the place of the list's own check, so that a file saved a moment ago is accepted."""
        if file is None:
            return True
        path = (memory_folder() / file).resolve()
        if not path.is_relative_to(memory_folder().resolve()):
            return f"The motion memory {file!r} lies outside output/{FOLDER}."
        if not path.is_file():
            return f"There is no motion memory {file!r} in output/{FOLDER}. Save one with Save Motion Memory."
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: object) -> str:
        """Reload when the file has changed."""
        path = memory_folder() / file
        return f"{file} {path.stat().st_mtime_ns}" if path.is_file() else file

    @classmethod
    def execute(cls, model: LoadedModel, file: str) -> io.NodeOutput:
        from ..mcdm_core.pipeline.memory import MotionMemory

        path = (memory_folder() / file).resolve()
        if not path.is_relative_to(memory_folder().resolve()):
            raise MemoryMismatchError(f"The motion memory {file!r} lies outside output/{FOLDER}.")
        return io.NodeOutput(MotionMemory.load(path, fingerprint=model.pipeline.fingerprint))
