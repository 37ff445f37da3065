"""Assemble Video: face crops into the full picture, streaming from disk to disk, a chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ..mcdm_core.errors import MediaError
from ..mcdm_core.media.audio import Audio
from .comfy.interruption import StoppableTorch, check_interrupt, stoppable
from .comfy.media import media_bridge
from .comfy.media.background import Background, mixed_sound
from .comfy.media.temporary_files import temporary_video, video_result
from .comfy.page.curves import player_curves
from .comfy.page.node_run import NodeRun
from .comfy.page.notes import note
from .comfy.page.player_events import WholeVideoPlayer
from .comfy.page.progress import StepProgress
from .comfy.page.stop_requests import STOP_REQUESTS
from .loaders import video_from_file
from .sockets import inputs
from .sockets.schema import Motion, advanced, schema

if TYPE_CHECKING:
    from comfy_api.input import AudioInput, VideoInput

    from ..mcdm_core.motion.motion import Motion as FaceMotion
    from ..mcdm_core.pipeline.reference import Reference as CoreReference
    from .comfy.models.model_patcher import LoadedModel
    from .comfy.models.pipeline_loading import ManagedPipeline

CHUNK = 16
FULL, CROP = "full picture", "face crop"


class MCDMAssembleVideo(io.ComfyNode):
    """Pictures back into the portrait, clips joined, sound beneath."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        more = {"optional": True, "tooltip": "Frames that follow, from the next Sample Clip."} | advanced()
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
                io.Video.Input(
                    "background",
                    optional=True,
                    tooltip="A full picture assembled from the same image: this face joins it, for two speakers.",
                    **advanced(),
                ),
            ],
            outputs=[
                io.Video.Output("out_video", display_name="video", tooltip="The finished video, on disk."),
                io.Image.Output("out_images", display_name="images", tooltip="The last frame, or all."),
                io.Audio.Output("out_audio", display_name="audio", tooltip="The sound, as long as the video."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
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
        fps: float,
        compose: str,
        frames_out: str,
        video: VideoInput | None = None,
        images: torch.Tensor | None = None,
        images_2: torch.Tensor | None = None,
        images_3: torch.Tensor | None = None,
        images_4: torch.Tensor | None = None,
        motion: FaceMotion | None = None,
        audio: AudioInput | None = None,
        background: VideoInput | None = None,
    ) -> io.NodeOutput:
        from .comfy.media.temporary_video import TemporaryVideoWriter

        batches = [batch for batch in (images, images_2, images_3, images_4) if batch is not None]
        if video is None and not batches:
            raise MediaError("Nothing to assemble: connect a VIDEO to 'video' or frames to 'images'.")
        if video is not None:
            fps = media_bridge.video_rate(video)
        sound = media_bridge.audio_to_core(audio) if audio is not None else None
        if sound is None and video is not None:
            sound = media_bridge.video_audio(video)
        paste = compose == FULL
        beneath = None
        if background is not None:
            if not paste:
                raise MediaError(f"A face crop has no background: choose compose '{FULL}', or disconnect 'background'.")
            beneath = Background(background, reference.image, fps)
            sound = sound if audio is not None else mixed_sound(sound, background)
        pipeline = model.ready()
        height, width = pipeline.output_size(reference, paste=paste)
        path = temporary_video("mcdm_assembled")
        kept: list[torch.Tensor] = []
        count = 0
        run, expected = NodeRun.of(cls), expected_frames(video, batches, fps)
        progress = StepProgress(expected, run)
        with (
            WholeVideoPlayer(run, (width, height), expected, fps, sound) as player,
            TemporaryVideoWriter(path, width, height, fps, sound) as writer,
        ):
            for given in _chunks(video, batches):
                crops = _sized(given, pipeline.config.image_size)
                if count == 0:
                    _warn_of_foreign_frames(run, pipeline, given)
                piece = motion[count : count + crops.shape[0]] if motion is not None else None
                made = _finished(pipeline, reference, crops, piece, paste)
                for frames in beneath.beneath(made) if beneath is not None else made:
                    with StoppableTorch():
                        writer.write(frames)
                    if frames_out == inputs.LAST_FRAME:
                        kept.clear()
                    kept.extend(frames.cpu())
                    player.progress(writer.frames_written)
                count += crops.shape[0]
                progress.show(kept[-1])
                progress.update(count)
                if player.stop_asked():
                    break
            if not kept:
                raise MediaError("The input 'video' has no frames. Connect another video.")
            writer.close()
            player.finish(path, count, player_curves(motion, count) if motion is not None else None)
        trimmed = media_bridge.audio_of_frames(sound or _silence(), 0, count, fps)
        result = video_from_file(path)
        with StoppableTorch():
            pictures = media_bridge.frames_to_image(torch.stack(kept))
        return io.NodeOutput(result, pictures, media_bridge.audio_from_core(trimmed), ui=video_result(path))


def _warn_of_foreign_frames(run: NodeRun, pipeline: ManagedPipeline, frames: torch.Tensor) -> None:
    """Say so if the first frame is square but shows no face where face crops have it."""
    side = frames.shape[-1]
    for left, top, right, bottom in pipeline.detect_faces(frames[0]):
        middle = abs((left + right) / 2 - side / 2) < side / 4 and abs((top + bottom) / 2 - side / 2) < side / 4
        if middle and 0.35 * side < right - left < 0.9 * side:
            return
    note(
        run,
        "The frames to assemble show no face where Sample Video's crops have it; pasted into the portrait they will "
        "look wrong. Connect the video or the images of Sample Video or Sample Clip.",
    )


def _finished(
    pipeline: ManagedPipeline, reference: CoreReference, crops: torch.Tensor, motion: FaceMotion | None, paste: bool
) -> Iterator[torch.Tensor]:
    """Crops [f, 3, s, s] as finished frames [1, 3, h, w]; without their motion the landmarks are read off them."""
    if motion is None or motion.landmarks is None or len(motion) < crops.shape[0]:
        landmarks = read_landmarks(pipeline, crops)
    else:
        landmarks = motion.landmarks[: crops.shape[0]]
    return stoppable(pipeline.finish_crops(reference, crops, landmarks, paste=paste))


def read_landmarks(pipeline: ManagedPipeline, crops: torch.Tensor) -> torch.Tensor:
    """Landmarks [f, 68, 2] of crops [f, 3, s, s] in [0, 1] as the face network reads them."""
    size = pipeline.config.face_network.input_size
    signed = torch.nn.functional.interpolate(crops, size=(size, size), mode="bilinear", antialias=True) * 2 - 1
    return pipeline.model.face_network(signed.to(pipeline.device)).landmarks.cpu()


def _silence() -> Audio:
    """What the audio socket gives for a video without sound."""
    return Audio(torch.zeros(1, 1), 44_100)


def expected_frames(video: VideoInput | None, batches: list[torch.Tensor], fps: float) -> int:
    """How many frames a video, or else batches of pictures, will give."""
    if video is not None:
        return max(1, round(video.get_duration() * fps))
    return sum(batch.shape[0] for batch in batches)


def _chunks(video: VideoInput | None, batches: list[torch.Tensor]) -> Iterator[torch.Tensor]:
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
