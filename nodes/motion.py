"""Predict, edit and plot motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io, ui

from ..mcdm_core.errors import MCDMError
from ..mcdm_core.models.motion_tokens import EXPRESSIONS
from .comfy.interruption import StoppableTorch
from .comfy.media import media_bridge
from .comfy.models.working_memory import working_bytes
from .comfy.page.progress import StepProgress
from .sockets import inputs
from .sockets.sampling_settings import MotionSettings
from .sockets.schema import EmbeddedAudio, Memory, Motion, schema

if TYPE_CHECKING:
    from comfy_api.input import VideoInput

    from ..mcdm_core.motion.motion import Motion as FaceMotion
    from ..mcdm_core.pipeline.memory import MotionMemory
    from ..mcdm_core.pipeline.reference import Reference as CoreReference
    from .comfy.models.model_patcher import LoadedModel
    from .comfy.models.pipeline_loading import ManagedPipeline
    from .sockets.values import EmbeddedSound

STREAMS = {
    "head": ("head",),
    "lips": ("lip",),
    "expression": ("expression",),
    "head and expression": ("head", "expression"),
}
NOTHING = "nothing"


class MCDMPredictMotion(io.ComfyNode):
    """Motion before pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMPredictMotion",
            "Predict Motion",
            description="Predicts how head, lips and face move with the voice. A driver video can steer the head.",
            search_aliases=["audio to motion", "head motion", "driver"],
            inputs=[
                inputs.model(),
                inputs.reference(),
                EmbeddedAudio.Input("audio", tooltip="From Embed Audio."),
                Memory.Input("memory", optional=True, tooltip="Continue after this video; else a new one begins."),
                io.Video.Input("driver", optional=True, tooltip="A video whose head movement is taken over."),
                io.Image.Input(
                    "driver_images",
                    optional=True,
                    tooltip="The driver as frames instead, at the video's rate.",
                ),
                inputs.motion_steps("steps"),
                inputs.motion_guidance("guidance"),
                inputs.temperature(),
                inputs.seed(),
                inputs.expression(),
                inputs.head_movement(),
                inputs.blinks(),
                inputs.blink_rate(),
            ],
            outputs=[Motion.Output("motion", display_name="motion", tooltip="Motion of the whole voice.")],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        audio: EmbeddedSound,
        steps: int,
        guidance: float,
        temperature: float,
        seed: int,
        memory: MotionMemory | None = None,
        driver: VideoInput | None = None,
        driver_images: torch.Tensor | None = None,
        expression: str = "",
        head_movement: float = 1.0,
        blinks: bool = True,
        blink_rate: float = 17.0,
    ) -> io.NodeOutput:
        pipeline = model.ready(working_bytes(model.pipeline))
        moves = MotionSettings(steps, guidance, temperature, expression, head_movement, blinks, blink_rate)
        moves.check()
        with StoppableTorch():
            landmarks = _driver_landmarks(pipeline, reference, audio, driver, driver_images)
        begin = memory if memory is not None else pipeline.start_memory(reference, seed=seed)
        clips = -(-audio.num_frames // pipeline.config.clip_frames)
        progress = StepProgress(clips)
        done = 0

        def report(step: int, steps: int, tokens: torch.Tensor | None = None) -> None:
            nonlocal done
            done += step == steps
            progress.update(done)

        motion = moves.predict(pipeline, reference, audio.embedding, begin, landmarks=landmarks, callback=report)
        return io.NodeOutput(motion)


def _driver_landmarks(
    pipeline: ManagedPipeline,
    reference: CoreReference,
    audio: EmbeddedSound,
    driver: VideoInput | None,
    driver_images: torch.Tensor | None,
) -> torch.Tensor | None:
    """Landmarks [frames, 68, 2] of a driver, repeated there and back if it is too short; None without a driver."""
    from ..mcdm_core.pipeline.driver import driver_landmarks

    if driver is not None:
        frames = media_bridge.frames_at_rate(driver, audio.fps)
    elif driver_images is None:
        return None
    else:
        frames = (media_bridge.image_to_frames(image[None], "driver_images")[0] for image in driver_images)
    return driver_landmarks(pipeline, reference, frames, audio.num_frames)


class MCDMEditMotion(io.ComfyNode):
    """Change the motion before it becomes pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def scale(name: str) -> io.Float.Input:
            return io.Float.Input(
                f"{name}_scale", default=1.0, min=0.0, max=2.0, step=0.05, tooltip=f"0: {name} at rest, 1: as it is."
            )

        return schema(
            "MCDMEditMotion",
            "Edit Motion",
            description="Scales, smooths, holds or swaps head, lips and expression; sets one of eight expressions.",
            search_aliases=["expression", "emotion", "smooth motion"],
            inputs=[
                inputs.model(),
                inputs.reference(),
                Motion.Input("motion", tooltip="From Predict Motion."),
                Motion.Input("other", optional=True, tooltip="Another motion to take something from."),
                scale("head"),
                scale("lips"),
                scale("expression"),
                io.Float.Input(
                    "smooth",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.02,
                    tooltip="Smooth head and expression over so many seconds; the lips are left alone.",
                ),
                io.Combo.Input(
                    "hold",
                    options=[NOTHING, *STREAMS],
                    default=NOTHING,
                    tooltip="Freeze this at the frame 'hold_frame'.",
                ),
                io.Int.Input(
                    "hold_frame",
                    default=0,
                    min=-100_000,
                    max=100_000,
                    tooltip="The frame to freeze at, from 0; -1 is the last.",
                ),
                io.Combo.Input(
                    "take_from_other", options=[NOTHING, *STREAMS], default=NOTHING, tooltip="Take this from 'other'."
                ),
                io.Combo.Input(
                    "expression",
                    options=["unchanged", *EXPRESSIONS],
                    default="unchanged",
                    tooltip="Gives the face one of eight expressions; unchanged: as the voice makes it.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.5, step=0.05, tooltip="Strength of the chosen expression."
                ),
            ],
            outputs=[Motion.Output("out_motion", display_name="motion", tooltip="The changed motion.")],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        reference: CoreReference,
        motion: FaceMotion,
        head_scale: float,
        lips_scale: float,
        expression_scale: float,
        smooth: float,
        hold: str,
        hold_frame: int,
        take_from_other: str,
        expression: str,
        strength: float,
        other: FaceMotion | None = None,
    ) -> io.NodeOutput:
        from ..mcdm_core.motion import editing

        pipeline = model.ready()
        rest = reference.motion_tokens.map(lambda stream: stream[0])
        if take_from_other != NOTHING:
            if other is None:
                raise MCDMError(f"take_from_other is '{take_from_other}', but nothing is connected to 'other'.")
            motion = editing.swap_streams(motion, other, STREAMS[take_from_other])
        if hold != NOTHING:
            motion = editing.hold_motion(motion, hold_frame, STREAMS[hold])
        if smooth > 0:
            motion = editing.smooth_motion(motion, smooth)
        if expression != "unchanged":
            motion = editing.set_expression(motion, pipeline.model.motion_codec, expression, strength)
        if (head_scale, lips_scale, expression_scale) != (1.0, 1.0, 1.0):
            motion = editing.scale_motion(motion, rest, head_scale, lips_scale, expression_scale)
        if motion.landmarks is None:
            tokens = motion.tokens.map(lambda stream: stream.to(pipeline.device))
            motion = pipeline.motion.decode(reference, tokens, motion.fps)
        return io.NodeOutput(motion)


class MCDMPlotMotion(io.ComfyNode):
    """See the motion before pixels are made of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMPlotMotion",
            "Plot Motion",
            description="Draws lip opening, head turn and blinks over the waveform.",
            search_aliases=["motion graph", "curves"],
            is_output_node=True,
            inputs=[
                Motion.Input("motion", tooltip="From Predict Motion or Edit Motion."),
                EmbeddedAudio.Input("audio", optional=True, tooltip="Its waveform is drawn beneath the curves."),
                io.Int.Input("width", default=960, min=256, max=4096, step=16, tooltip="Width in pixels."),
                io.Int.Input("height", default=420, min=128, max=2048, step=4, tooltip="Height in pixels."),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The picture.")],
        )

    @classmethod
    def execute(cls, motion: FaceMotion, width: int, height: int, audio: EmbeddedSound | None = None) -> io.NodeOutput:
        from ..mcdm_core.motion.plot import plot_motion

        waveform = None
        if audio is not None:
            waveform = media_bridge.audio_of_frames(audio.audio, 0, len(motion), motion.fps).waveform.mean(0)
        image = media_bridge.frames_to_image(plot_motion(motion, waveform, (width, height))[None])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
