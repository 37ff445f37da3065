"""Load MCDM Model, and the samples that ship with the pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import InputImpl, io

from ..mcdm_core.samples import FOLDER as SAMPLES
from ..mcdm_core.samples import list_samples
from .comfy.media import media_bridge
from .comfy.models import model_patcher
from .sockets.schema import Model, advanced, schema

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel
    from comfy.clip_vision import ClipVisionModel
    from comfy.sd import VAE
    from comfy_api.input import VideoInput


class MCDMLoadModel(io.ComfyNode):
    """The model, its weights under ComfyUI's management."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMLoadModel",
            "Load MCDM Model",
            description="Loads the shipped tiny model or a safetensors file from models/mcdm.",
            search_aliases=["talking face", "lip sync", "talking head", "avatar", "portrait animation"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_patcher.available_models(),
                    default=model_patcher.SHIPPED,
                    tooltip="The shipped tiny model or a file in models/mcdm; base tells what it needs.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["auto", "float32", "bfloat16", "float16"],
                    default="auto",
                    tooltip="Number format of the weights. auto: what the device is good at; float32 on a CPU.",
                    **advanced(),
                ),
                io.Combo.Input(
                    "attention",
                    options=["model's own", "exact", "favor"],
                    default="model's own",
                    tooltip="Temporal attention: exact, or the paper's FAVOR+ (linear in clip length).",
                    **advanced(),
                ),
                io.Vae.Input("vae", optional=True, tooltip="base only: a Stable Diffusion 1.5 VAE; not loaded twice."),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="base only: CLIP ViT-L from Load CLIP Vision."
                ),
                io.AudioEncoder.Input(
                    "audio_encoder", optional=True, tooltip="base only: wav2vec2 base from Load Audio Encoder."
                ),
                io.Combo.Input(
                    "adapter",
                    options=model_patcher.available_adapters(),
                    default=model_patcher.NO_ADAPTER,
                    optional=True,
                    tooltip="One person's fine-tuning in models/mcdm, made by mcdm train lora.",
                    **advanced(),
                ),
                io.Float.Input(
                    "adapter_strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="1 as trained, 0 none.",
                    **advanced(),
                ),
            ],
            outputs=[Model.Output("model", display_name="model", tooltip="For the other MCDM nodes.")],
        )

    @classmethod
    def execute(
        cls,
        model_name: str,
        dtype: str,
        attention: str,
        vae: VAE | None = None,
        clip_vision: ClipVisionModel | None = None,
        audio_encoder: AudioEncoderModel | None = None,
        adapter: str = model_patcher.NO_ADAPTER,
        adapter_strength: float = 1.0,
    ) -> io.NodeOutput:
        from .comfy.models.pipeline_loading import load_pipeline

        path = model_patcher.weight_path(model_name)
        adapters = (
            [] if adapter == model_patcher.NO_ADAPTER else [(model_patcher.weight_path(adapter), adapter_strength)]
        )
        pipeline = load_pipeline(
            path, dtype, attention, vae=vae, clip_vision=clip_vision, audio_encoder=audio_encoder, adapters=adapters
        )
        return io.NodeOutput(model_patcher.LoadedModel(pipeline, model_name))

    @classmethod
    def fingerprint_inputs(cls, model_name: str, adapter: str = model_patcher.NO_ADAPTER, **_: object) -> str:
        """Reload when a file has changed."""
        import folder_paths

        words = []
        for name in (model_name, adapter):
            own = name not in (model_patcher.SHIPPED, model_patcher.BASE, model_patcher.NO_ADAPTER)
            found = folder_paths.get_full_path(model_patcher.FOLDER, name) if own else None
            facts = None if found is None else Path(found).stat()
            words.append(name if facts is None else f"{name} {facts.st_size} {facts.st_mtime_ns}")
        return ", ".join(words)


class MCDMSamples(io.ComfyNode):
    """Portrait and voice that ship with the pack, so that every template runs at once."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        samples = list_samples()
        return schema(
            "MCDMSamples",
            "MCDM Samples",
            description="A portrait and a voice that ship with the pack. Replace by Load Image and Load Audio.",
            search_aliases=["example portrait", "example voice", "demo"],
            inputs=[
                io.Combo.Input("portrait", options=samples["portraits"], tooltip="A picture that ships with the pack."),
                io.Combo.Input("voice", options=samples["voices"], tooltip="A voice that ships with the pack."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The portrait."),
                io.Audio.Output("audio", display_name="audio", tooltip="The voice."),
            ],
        )

    @classmethod
    def execute(cls, portrait: str, voice: str) -> io.NodeOutput:
        from ..mcdm_core.media.audio import load_audio
        from ..mcdm_core.media.portrait import load_portrait

        picture = load_portrait(SAMPLES / Path(portrait).name)
        sound = load_audio(SAMPLES / Path(voice).name)
        return io.NodeOutput(media_bridge.frames_to_image(picture[None]), media_bridge.audio_from_core(sound))


def video_from_file(path: Path) -> VideoInput:
    """A VIDEO that stays on disk."""
    return InputImpl.VideoFromFile(str(path))
