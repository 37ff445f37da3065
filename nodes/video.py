"""Assemble Video and Upscale Video: streaming from disk to disk, a chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from comfy_api.latest import io

from ..mcdm_core.errors import MediaError, OutOfMemoryError
from ..mcdm_core.media.audio import Audio
from . import inputs
from .comfy import media_bridge
from .comfy.interruption import StoppableTorch, check_interrupt, interruptible, stoppable
from .comfy.player_events import WholeVideoPlayer
from .comfy.progress import StepProgress
from .comfy.temporary_files import temporary_video, video_result
from .curves import player_curves
from .loaders import video_from_file
from .schema import Motion, schema

CHUNK = 16
FULL, CROP = "full picture", "face crop"


class MCDMAssembleVideo(io.ComfyNode):
    """Pictures back into the portrait, clips joined, sound beneath."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        more = {"optional": True, "tooltip": "Frames that follow, from the next Sample Clip."}
        return schema(
            "MCDMAssembleVideo",
            "Assemble Video",
            description="Pastes the face back into the full picture, joins clips and adds the sound.",
            search_aliases=["paste back", "mux", "combine video"],
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                inputs.reference(),
                io.Video.Input("video", optional=True, tooltip="Face crops on disk, from Sample Video."),
                io.Image.Input("images", optional=True, tooltip="Face crops in memory, from Sample Clip."),
                io.Image.Input("images_2", **more),
                io.Image.Input("images_3", **more),
                io.Image.Input("images_4", **more),
                Motion.Input(
                    "motion", optional=True, tooltip="Motion of these frames, for the portrait's fine detail."
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound; else the video's own."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=60.0,
                    step=1.0,
                    tooltip="Frames a second of 'images'; a video keeps its own rate.",
                ),
                io.Combo.Input(
                    "compose",
                    options=[FULL, CROP],
                    default=FULL,
                    tooltip="full picture: the face goes back into the portrait; face crop: the square alone.",
                ),
                inputs.frames_out("What 'images' holds; choose all frames for upscalers or Video Helper Suite."),
            ],
            outputs=[
                io.Video.Output("out_video", display_name="video", tooltip="The finished video, on disk."),
                io.Image.Output("out_images", display_name="images", tooltip="The last frame, or all."),
                io.Audio.Output("out_audio", display_name="audio", tooltip="The sound, as long as the video."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        reference: Any,
        fps: float,
        compose: str,
        frames_out: str,
        video: Any = None,
        images: Any = None,
        images_2: Any = None,
        images_3: Any = None,
        images_4: Any = None,
        motion: Any = None,
        audio: Any = None,
    ) -> io.NodeOutput:
        from .comfy.temporary_video import TemporaryVideoWriter

        batches = [batch for batch in (images, images_2, images_3, images_4) if batch is not None]
        if video is None and not batches:
            raise MediaError("Nothing to assemble: connect a VIDEO to 'video' or frames to 'images'.")
        if video is not None:
            fps = media_bridge.video_rate(video)
        sound = media_bridge.audio_to_core(audio) if audio is not None else None
        if sound is None and video is not None:
            sound = media_bridge.video_audio(video)
        pipeline = model.ready()
        paste = compose == FULL
        height, width = pipeline.output_size(reference, paste=paste)
        path = temporary_video("mcdm_assembled")
        kept: list[torch.Tensor] = []
        count = 0
        node, expected = str(cls.hidden.unique_id), _expected_frames(video, batches, fps)
        player = WholeVideoPlayer(node, (width, height), expected, fps, sound)
        progress = StepProgress(expected, node)
        with TemporaryVideoWriter(path, width, height, fps, sound) as writer:
            for crops in _chunks(video, batches):
                piece = motion[count : count + crops.shape[0]] if motion is not None else None
                crops = _sized(crops, pipeline.config.image_size)
                for frames in _finished(pipeline, reference, crops, piece, paste):
                    with StoppableTorch():
                        writer.write(frames)
                    if frames_out == inputs.LAST_FRAME:
                        kept.clear()
                    kept.extend(frames.cpu())
                count += crops.shape[0]
                progress.show(kept[-1])
                progress.update(count)
        player.finish(path, count, player_curves(motion, count) if motion is not None else None)
        trimmed = media_bridge.audio_of_frames(sound or _silence(), 0, count, fps)
        result = video_from_file(path)
        with StoppableTorch():
            pictures = media_bridge.frames_to_image(torch.stack(kept))
        return io.NodeOutput(result, pictures, media_bridge.audio_from_core(trimmed), ui=video_result(path))


def _finished(pipeline: Any, reference: Any, crops: torch.Tensor, motion: Any, paste: bool) -> Iterator[torch.Tensor]:
    """Crops [f, 3, s, s] as finished frames [1, 3, h, w]; without their motion the detail comes from read landmarks."""
    from ..mcdm_core.pipeline import Clip

    if motion is None or len(motion) < crops.shape[0]:
        motion = read_motion(pipeline, reference, crops)
    clip = Clip(0, 0, crops, crops, motion, None)
    return stoppable(pipeline.finish_frames(reference, clip, paste=paste))


def read_motion(pipeline: Any, reference: Any, crops: torch.Tensor) -> Any:
    """The motion of crops [f, 3, s, s] in [0, 1] as the face network and the codec read it."""
    from ..mcdm_core.motion.motion import Motion as CoreMotion

    size = pipeline.config.face_network.input_size
    signed = torch.nn.functional.interpolate(crops, size=(size, size), mode="bilinear", antialias=True) * 2 - 1
    signed = signed.to(pipeline.device)
    reading = pipeline.model.face_network(signed)
    tokens = pipeline.model.motion_codec.encode(signed[None], reading.landmarks[None]).map(lambda stream: stream[0])
    return CoreMotion(tokens, reading.landmarks.cpu(), reading.values.cpu(), 25.0)


def _silence() -> Audio:
    """What the audio socket gives for a video without sound."""
    return Audio(torch.zeros(1, 1), 44_100)


def _expected_frames(video: Any, batches: list[torch.Tensor], fps: float) -> int:
    if video is not None:
        return max(1, round(video.get_duration() * fps))
    return sum(batch.shape[0] for batch in batches)


def _chunks(video: Any, batches: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Frames [<=16, 3, h, w] of the video, then of the batches."""
    if video is not None:
        for chunk in media_bridge.iterate_video(video, CHUNK):
            check_interrupt()
            yield chunk
    for batch in batches:
        for begin in range(0, batch.shape[0], CHUNK):
            check_interrupt()
            yield media_bridge.image_to_frames(batch[begin : begin + CHUNK], "images")


def _sized(crops: torch.Tensor, size: int) -> torch.Tensor:
    """Square crops at the model's size.

    Raises:
        MediaError: if they are not square.
    """
    height, width = crops.shape[-2:]
    if height != width:
        raise MediaError(
            f"The frames to assemble are {width}x{height} pixels; expected square face crops ({size}x{size}), as "
            "Sample Clip and Sample Video make them. Upscale after Assemble Video."
        )
    if width == size:
        return crops
    return torch.nn.functional.interpolate(crops, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


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
                io.Int.Input("frames_at_once", default=4, min=1, max=64, tooltip="Fewer need less memory."),
                io.Int.Input(
                    "tile", default=512, min=128, max=2048, step=64, tooltip="Tile of the upscaler, in pixels."
                ),
            ],
            outputs=[io.Video.Output("out_video", display_name="video", tooltip="The larger video, with its sound.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, video: Any, scale: float, frames_at_once: int, tile: int, upscale_model: Any = None
    ) -> io.NodeOutput:
        from .comfy.temporary_video import TemporaryVideoWriter

        fps = media_bridge.video_rate(video)
        width, height = video.get_dimensions()
        size = (2 * round(height * scale / 2), 2 * round(width * scale / 2))
        path = temporary_video("mcdm_upscaled")
        sound = media_bridge.video_audio(video)
        node, expected = str(cls.hidden.unique_id), _expected_frames(video, [], fps)
        player = WholeVideoPlayer(node, (size[1], size[0]), expected, fps, sound)
        progress = StepProgress(expected, node)
        with TemporaryVideoWriter(path, size[1], size[0], fps, sound) as writer:
            for frames in media_bridge.iterate_video(video, frames_at_once):
                check_interrupt()
                large = frames if upscale_model is None else upscale_frames(upscale_model, frames, tile)
                for frame in large:
                    with StoppableTorch():
                        frame = _resized(frame, size)
                        writer.write(frame)
                progress.show(frame)
                progress.advance(frames.shape[0])
        player.finish(path, writer.frames_written)
        return io.NodeOutput(video_from_file(path), ui=video_result(path))


def _resized(frame: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A frame [3, h, w] at height and width ``size``, in [0, 1]."""
    if tuple(frame.shape[-2:]) != size:
        frame = torch.nn.functional.interpolate(frame[None], size=size, mode="bicubic", antialias=True)[0]
    return frame.clamp(0, 1)


def upscale_frames(upscale_model: Any, frames: torch.Tensor, tile: int) -> torch.Tensor:
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
