"""Encode Reference and Embed Audio: what the user brings."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from . import inputs
from .comfy import media_bridge
from .comfy.interruption import StoppableTorch
from .schema import EmbeddedAudio, Reference, schema
from .values import EmbeddedSound


class MCDMEncodeReference(io.ComfyNode):
    """The face that is to speak."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 0, "min": 0, "max": 16384}
        return schema(
            "MCDMEncodeReference",
            "Encode Reference",
            description="Finds and encodes the face that is to speak. Give a mask or box where it is not found.",
            search_aliases=["portrait", "identity", "face crop"],
            has_intermediate_output=True,
            inputs=[
                inputs.model(),
                io.Image.Input("image", tooltip="The portrait. Of a batch, the first picture is used."),
                io.Mask.Input("mask", optional=True, tooltip="Paint over the face to say where it is."),
                io.Int.Input("box_left", **side, tooltip="Face box in pixels; all four 0: the face is found."),
                io.Int.Input("box_top", **side, tooltip="Face box in pixels; all four 0: the face is found."),
                io.Int.Input("box_right", **side, tooltip="Face box in pixels; all four 0: the face is found."),
                io.Int.Input("box_bottom", **side, tooltip="Face box in pixels; all four 0: the face is found."),
            ],
            outputs=[
                Reference.Output("reference", display_name="reference", tooltip="The encoded face."),
                io.Image.Output("crop", display_name="crop", tooltip="The square the model sees."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, image: Any, box_left: int, box_top: int, box_right: int, box_bottom: int, mask: Any = None
    ) -> io.NodeOutput:
        pipeline = model.ready()
        box = None
        if mask is not None:
            box = media_bridge.mask_to_box(mask)
        elif any((box_left, box_top, box_right, box_bottom)):
            box = (float(box_left), float(box_top), float(box_right), float(box_bottom))
        with StoppableTorch():
            portrait = media_bridge.image_to_frames(image[:1] if image.ndim == 4 else image)[0]
            reference = pipeline.encode_reference(portrait, box=box)
        crop = media_bridge.frames_to_image(reference.crop.reshape(1, *reference.crop.shape[-3:]).clamp(0, 1).cpu())
        return io.NodeOutput(reference, crop, ui=ui.PreviewImage(crop, cls=cls))


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
                    "fps", default=25.0, min=1.0, max=60.0, step=1.0, tooltip="Frames a second; made for 25."
                ),
                io.Boolean.Input(
                    "allow_silent", default=False, tooltip="Accept a wholly silent sound: a face at rest that listens."
                ),
            ],
            outputs=[
                EmbeddedAudio.Output("embedded", display_name="audio", tooltip="For the sampling nodes."),
                io.Audio.Output("sound", display_name="sound", tooltip="The chosen stretch of the sound."),
                io.Int.Output("frames", display_name="frames", tooltip="Number of frames of the video."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, audio: Any, start: float, duration: float, fps: float, allow_silent: bool
    ) -> io.NodeOutput:
        stretch = media_bridge.cut_audio(media_bridge.audio_to_core(audio), start, duration)
        pipeline = model.ready()
        with StoppableTorch():
            embedding = pipeline.embed_audio(stretch.waveform, stretch.sample_rate, fps=fps, allow_silent=allow_silent)
        sound = EmbeddedSound(embedding, stretch, fps)
        return io.NodeOutput(sound, media_bridge.audio_from_core(stretch), sound.num_frames)
