"""Encode Reference and Embed Audio: what the user brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io, ui

from ..mcdm_core.errors import MediaError
from .comfy.interruption import StoppableTorch
from .comfy.media import media_bridge
from .comfy.page.node_run import NodeRun
from .comfy.page.notes import note
from .sockets import inputs
from .sockets.face_choice import choose_face
from .sockets.schema import EmbeddedAudio, Reference, advanced, schema
from .sockets.values import EmbeddedSound

if TYPE_CHECKING:
    from comfy_api.input import AudioInput

    from .comfy.models.model_patcher import LoadedModel

MOST_PORTRAITS = 16
"""Pictures of a batch that become a video each; more are taken for the frames of a video."""


class MCDMEncodeReference(io.ComfyNode):
    """The face that is to speak."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 0, "min": 0, "max": 16384} | advanced()
        place = "Face box in pixels; all four 0: the face is found."
        return schema(
            "MCDMEncodeReference",
            "Encode Reference",
            description="Finds and encodes the face that is to speak. Give a mask or box where it is not found.",
            search_aliases=["portrait", "identity", "face crop"],
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                io.Image.Input("image", tooltip="The portrait. Each picture of a batch becomes a video of its own."),
                io.Mask.Input("mask", optional=True, tooltip="Paint over the face to say where it is."),
                io.Int.Input("box_left", tooltip=place, **side),
                io.Int.Input("box_top", tooltip=place, **side),
                io.Int.Input("box_right", tooltip=place, **side),
                io.Int.Input("box_bottom", tooltip=place, **side),
                io.Int.Input(
                    "face_number",
                    default=1,
                    min=1,
                    max=32,
                    optional=True,
                    tooltip="Which of several faces, the largest first. A mask or a box goes before it.",
                ),
            ],
            outputs=[
                Reference.Output(
                    "reference", display_name="reference", is_output_list=True, tooltip="The encoded face."
                ),
                io.Image.Output("crop", display_name="crop", tooltip="The square the model sees."),
                io.String.Output(
                    "check", display_name="check", tooltip="What may spoil the video, with advice; else empty."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: LoadedModel,
        image: torch.Tensor,
        box_left: int,
        box_top: int,
        box_right: int,
        box_bottom: int,
        mask: torch.Tensor | None = None,
        face_number: int = 1,
    ) -> io.NodeOutput:
        run, pipeline = NodeRun.of(cls), model.ready()
        box = (float(box_left), float(box_top), float(box_right), float(box_bottom))
        with StoppableTorch():
            portraits = media_bridge.image_to_frames(image[: MOST_PORTRAITS + 1] if image.ndim == 4 else image)
            if len(portraits) > MOST_PORTRAITS:
                raise MediaError(
                    f"The input 'image' holds {image.shape[0]} pictures, each of which would become a video; at most "
                    f"{MOST_PORTRAITS} are taken. Connect a portrait, or choose one by Image From Batch."
                )
            references, findings = [], []
            for index, portrait in enumerate(portraits):
                own = mask if mask is None or mask.ndim == 2 or len(mask) != len(portraits) else mask[index]
                place = choose_face(run, pipeline, portrait, own, box, face_number)
                references.append(pipeline.encode_reference(portrait, box=place))
                findings += [str(finding) for finding in pipeline.check_portrait(portrait, box=place)]
        crops = [reference.crop.reshape(3, *reference.crop.shape[-2:]).clamp(0, 1).cpu() for reference in references]
        crop = media_bridge.frames_to_image(torch.stack(crops))
        check = "\n".join(dict.fromkeys(findings))
        if check:
            note(run, check)
        return io.NodeOutput(references, crop, check, ui=ui.PreviewImage(crop, cls=cls))


class MCDMEmbedAudio(io.ComfyNode):
    """The voice."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMEmbedAudio",
            "Embed Audio",
            description="Prepares a voice: any rate, mono or stereo. Its length decides the length of the video.",
            search_aliases=["voice", "speech", "lip sync audio"],
            inputs=[
                inputs.model(),
                io.Audio.Input("audio", tooltip="The voice; its length becomes the video's."),
                io.Float.Input("start", default=0.0, min=0.0, max=86400.0, step=0.1, tooltip="Begin here, in seconds."),
                io.Float.Input(
                    "duration", default=0.0, min=0.0, max=86400.0, step=0.1, tooltip="Length in seconds; 0: to the end."
                ),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=60.0,
                    step=1.0,
                    tooltip="Frames a second; made for 25.",
                    **advanced(),
                ),
                io.Boolean.Input(
                    "allow_silent",
                    default=False,
                    tooltip="Accept a wholly silent sound: a face at rest that listens.",
                    **advanced(),
                ),
            ],
            outputs=[
                EmbeddedAudio.Output("embedded", display_name="audio", tooltip="For the sampling nodes."),
                io.Audio.Output("sound", display_name="sound", tooltip="The chosen segment of the sound."),
                io.Int.Output("frames", display_name="frames", tooltip="Number of frames of the video."),
            ],
        )

    @classmethod
    def execute(
        cls, model: LoadedModel, audio: AudioInput, start: float, duration: float, fps: float, allow_silent: bool
    ) -> io.NodeOutput:
        segment = media_bridge.cut_audio(media_bridge.audio_to_core(audio), start, duration)
        pipeline = model.ready()
        with StoppableTorch():
            embedding = pipeline.embed_audio(segment.waveform, segment.sample_rate, fps=fps, allow_silent=allow_silent)
        sound = EmbeddedSound(embedding, segment, fps)
        return io.NodeOutput(sound, media_bridge.audio_from_core(segment), sound.num_frames)
