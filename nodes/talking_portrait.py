"""Talking Portrait: the whole way in one node, made of the other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .comfy.models import model_patcher
from .sockets import inputs
from .sockets.schema import Model, schema
from .video import CROP, FULL

if TYPE_CHECKING:
    from comfy_api.input import AudioInput
    from torch import Tensor

    from .comfy.models.model_patcher import LoadedModel


class MCDMTalkingPortrait(io.ComfyNode):
    """A portrait and a voice to a video: it expands into the nodes that one would connect by hand."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMTalkingPortrait",
            "Talking Portrait",
            description="A portrait and a voice become a talking video: everything in one node.",
            search_aliases=["talking head", "talking face", "lip sync", "avatar", "portrait animation"],
            enable_expand=True,
            inputs=[
                io.Image.Input("image", tooltip="The portrait, from Load Image."),
                io.Audio.Input("audio", tooltip="The voice, from Load Audio; its length becomes the video's."),
                inputs.seed(),
                io.Float.Input(
                    "liveliness",
                    default=-1.0,
                    min=-1.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 calm, 1 as people move. Below 0: the model's own.",
                ),
                io.String.Input("expression", default="", tooltip=inputs.EXPRESSION),
                io.Float.Input(
                    "head_movement",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How far the head moves: 0 still, 1 as predicted.",
                ),
                io.Boolean.Input("blinks", default=True, tooltip="Whether the face blinks by itself."),
                io.Combo.Input(
                    "compose",
                    options=[FULL, CROP],
                    default=FULL,
                    tooltip="full picture: the face goes back into the portrait; face crop: the square alone.",
                ),
                Model.Input("model", optional=True, tooltip="From Load MCDM Model; else the shipped tiny model."),
                inputs.blink_rate(),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="The finished video, on disk.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        audio: AudioInput,
        seed: int,
        liveliness: float,
        expression: str,
        head_movement: float,
        blinks: bool,
        compose: str,
        model: LoadedModel | None = None,
        blink_rate: float = 17.0,
    ) -> io.NodeOutput:
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        source: LoadedModel | list[str | int] | None = model
        if source is None:
            choices = {"model_name": model_patcher.SHIPPED, "dtype": "auto", "attention": "model's own"}
            source = graph.node("MCDMLoadModel", **choices).out(0)
        box = dict.fromkeys(("box_left", "box_top", "box_right", "box_bottom"), 0)
        reference = graph.node("MCDMEncodeReference", model=source, image=image, **box).out(0)
        voice = {"start": 0.0, "duration": 0.0, "fps": 25.0, "allow_silent": False}
        sound = graph.node("MCDMEmbedAudio", model=source, audio=audio, **voice).out(0)
        sampled = graph.node(
            "MCDMSampleVideo",
            model=source,
            reference=reference,
            audio=sound,
            steps=0,
            guidance=0.0,
            motion_steps=0,
            motion_guidance=0.0,
            temperature=liveliness,
            seed=seed,
            filename_prefix="mcdm/portrait",
            resume=True,
            frames_out=inputs.LAST_FRAME,
            expression=expression,
            head_movement=head_movement,
            blinks=blinks,
            blink_rate=blink_rate,
        )
        whole = graph.node(
            "MCDMAssembleVideo",
            model=source,
            reference=reference,
            video=sampled.out(0),
            motion=sampled.out(3),
            fps=25.0,
            compose=compose,
            frames_out=inputs.LAST_FRAME,
        )
        return io.NodeOutput(whole.out(0), expand=graph.finalize())
