"""Upscale Video: any upscaler, streaming from disk to disk, a few frames in memory at a time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ..mcdm_core.errors import MediaError, OutOfMemoryError
from .comfy.interruption import StoppableTorch, check_interrupt, interruptible
from .comfy.media import media_bridge
from .comfy.media.temporary_files import temporary_video, video_result
from .comfy.page.node_run import NodeRun
from .comfy.page.player_events import WholeVideoPlayer
from .comfy.page.progress import StepProgress
from .comfy.page.stop_requests import STOP_REQUESTS
from .loaders import video_from_file
from .sockets.schema import advanced, schema
from .video import expected_frames

if TYPE_CHECKING:
    from comfy_api.input import VideoInput
    from spandrel import ImageModelDescriptor

LARGEST_SIDE = 8192
"""Pixels; h264 in one piece, and memory for a few frames."""


class MCDMUpscaleVideo(io.ComfyNode):
    """Any upscaler, a few frames at a time, from disk to disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMUpscaleVideo",
            "Upscale Video (streaming)",
            description="Upscales a video of any length with any upscale model; only a few frames are in memory.",
            search_aliases=["video upscale", "super resolution", "enhance video"],
            has_intermediate_output=True,
            inputs=[
                io.Video.Input("video", tooltip="From Assemble Video, Sample Video or Load Video."),
                io.UpscaleModel.Input("upscale_model", optional=True, tooltip="From Load Upscale Model; else bicubic."),
                io.Float.Input(
                    "scale", default=2.0, min=1.0, max=8.0, step=0.25, tooltip="Size of the result against the video's."
                ),
                io.Int.Input(
                    "frames_at_once", default=4, min=1, max=64, tooltip="Fewer need less memory.", **advanced()
                ),
                io.Int.Input(
                    "tile",
                    default=512,
                    min=128,
                    max=2048,
                    step=64,
                    tooltip="Tile of the upscaler, in pixels.",
                    **advanced(),
                ),
            ],
            outputs=[io.Video.Output("out_video", display_name="video", tooltip="The larger video, with its sound.")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        """A video that was stopped early must not be taken from ComfyUI's cache for the whole one."""
        return STOP_REQUESTS.stops

    @classmethod
    def execute(
        cls,
        video: VideoInput,
        scale: float,
        frames_at_once: int,
        tile: int,
        upscale_model: ImageModelDescriptor | None = None,
    ) -> io.NodeOutput:
        from .comfy.media.temporary_video import TemporaryVideoWriter

        fps = media_bridge.video_rate(video)
        chunks = media_bridge.iterate_video(video, frames_at_once)
        first = next(chunks, None)
        if first is None:
            raise MediaError("The input 'video' has no frames. Connect another video.")
        size = _enlarged(first.shape[-2], first.shape[-1], scale)
        path = temporary_video("mcdm_upscaled")
        sound = media_bridge.video_audio(video)
        run, expected = NodeRun.of(cls), expected_frames(video, [], fps)
        progress = StepProgress(expected, run)
        with (
            WholeVideoPlayer(run, (size[1], size[0]), expected, fps, sound) as player,
            TemporaryVideoWriter(path, size[1], size[0], fps, sound) as writer,
        ):
            for frames in itertools.chain([first], chunks):
                check_interrupt()
                large = frames if upscale_model is None else upscale_frames(upscale_model, frames, tile)
                shown = None
                for frame in large:
                    with StoppableTorch():
                        shown = _resized(frame, size)
                        writer.write(shown)
                if shown is not None:
                    progress.show(shown)
                progress.advance(frames.shape[0])
                player.progress(writer.frames_written)
                if player.stop_asked():
                    break
            writer.close()
            player.finish(path, writer.frames_written)
        return io.NodeOutput(video_from_file(path), ui=video_result(path))


def _enlarged(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of the result, even as videos ask.

    Raises:
        MediaError: if it is larger than can be encoded.
    """
    size = (2 * round(height * scale / 2), 2 * round(width * scale / 2))
    if max(size) > LARGEST_SIDE:
        raise MediaError(
            f"The video of {width}x{height} pixels would become {size[1]}x{size[0]}; at most {LARGEST_SIDE} a side can "
            "be encoded. Lower 'scale'."
        )
    return size


def _resized(frame: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A frame [3, h, w] at height and width ``size``, in [0, 1]."""
    if tuple(frame.shape[-2:]) != size:
        frame = torch.nn.functional.interpolate(frame[None], size=size, mode="bicubic", antialias=True)[0]
    return frame.clamp(0, 1)


def upscale_frames(upscale_model: ImageModelDescriptor, frames: torch.Tensor, tile: int) -> torch.Tensor:
    """Frames [f, 3, h, w] through an UPSCALE_MODEL in tiles, halved while memory does not suffice.

    Raises:
        OutOfMemoryError: if tiles of 128 pixels do not fit either.
    """
    import comfy.model_management as management
    import comfy.utils

    need = int(tile * tile * 3 * 4 * max(upscale_model.scale, 1.0) * 384)
    patcher = getattr(upscale_model, "patcher", None)
    if patcher is not None:
        management.load_models_gpu([patcher], memory_required=need)
        device = patcher.load_device
    else:  # ComfyUI 0.3.64 hands out the bare model
        device = management.get_torch_device()
        management.free_memory(management.module_size(upscale_model.model) + need, device)
        upscale_model.to(device)
    try:
        while True:
            try:
                with interruptible(upscale_model.model):
                    return comfy.utils.tiled_scale(
                        frames.to(device),
                        lambda piece: upscale_model(piece.float()),
                        tile_x=tile,
                        tile_y=tile,
                        overlap=32,
                        upscale_amount=upscale_model.scale,
                    ).cpu()
            except management.OOM_EXCEPTION as error:
                tile //= 2
                if tile < 128:
                    raise OutOfMemoryError(
                        "The upscaler does not fit into memory even with tiles of 128 pixels. Lower frames_at_once or "
                        "use a smaller upscale model."
                    ) from error
    finally:
        if patcher is None:
            upscale_model.to("cpu")
