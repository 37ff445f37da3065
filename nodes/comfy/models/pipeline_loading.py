"""From a weight file to a pipeline whose layers ComfyUI can cast and offload one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ....mcdm_core.adapter import merge_adapters
from ....mcdm_core.checkpoint import COMPONENTS, load_checkpoint
from ....mcdm_core.errors import WeightsError
from ....mcdm_core.model import MCDMModel
from ....mcdm_core.pipeline import MCDMPipeline
from ..interruption import make_interruptible
from .base_components import borrowed_components, borrowing_sockets
from .model_patcher import choose_dtype
from .packages import import_package

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel
    from comfy.clip_vision import ClipVisionModel
    from comfy.sd import VAE

    from ....mcdm_core.pipeline.pipeline import Adapters


class ManagedPipeline(MCDMPipeline):
    """A pipeline that computes where ComfyUI says, also while some of its weights lie elsewhere."""

    numerics: tuple[str, ...] = ()
    """Number format of the weights and kinds of attention: they too decide what the pictures are."""

    def use_device(self, device: torch.device) -> None:
        """Compute here from now on."""
        self.model.compute_device = device


def load_pipeline(
    path: Path,
    dtype: str,
    attention: str,
    *,
    vae: VAE | None = None,
    clip_vision: ClipVisionModel | None = None,
    audio_encoder: AudioEncoderModel | None = None,
    adapters: Adapters = (),
) -> ManagedPipeline:
    """Read a weight file and turn its model's layers into ComfyUI's.

    What a socket supplies is neither built nor filled here, also where the file has weights for it.

    Args:
        dtype: of the stored weights; nearly all layers compute in float32, so results hardly depend on it.
        attention: ``exact`` or ``favor`` for the temporal attention, anything else keeps the model's own.
        adapters: files of personal fine-tuning with their strengths.

    Raises:
        WeightsError: if the file is damaged, or lacks components that no socket supplies.
        PackageError: if Stable Diffusion's autoencoder is to be built and diffusers is not installed.
    """
    config, states, stage = load_checkpoint(path)
    parts = borrowed_components(config, vae, clip_vision, audio_encoder)
    missing = [name for name in COMPONENTS if name not in states and name not in parts]
    if missing:
        sockets = borrowing_sockets(config)
        hint = ", ".join(sockets[name] for name in missing if name in sockets)
        raise WeightsError(
            f"{path.name} lacks {', '.join(missing)}. "
            + (f"Connect {hint} of Load MCDM Model to ComfyUI's own loaders." if hint else "Get the whole file.")
        )
    if config.vae.layout == "stable_diffusion" and "vae" not in parts:
        import_package("diffusers")
    MCDMModel.check_fit(config, states, parts)
    if adapters:
        states = merge_adapters(states, config, adapters)
    model = MCDMModel(config, given=parts)
    model.load_states({name: state for name, state in states.items() if name not in parts}, allow_missing=True)
    if attention in ("exact", "favor"):
        model.unet.set_temporal_attention(attention)
    adopt_layers(model)
    make_interruptible(model)
    pipeline = ManagedPipeline(model, stage)
    stored = choose_dtype(dtype, sum(weight.numel() for weight in model.parameters()))
    _store_as(model, stored)
    pipeline.numerics = (str(stored), *sorted({block.temporal.kind for block in model.unet.transformer_blocks()}))
    return pipeline


def adopt_layers(model: torch.nn.Module) -> None:
    """Make every plain torch layer, those of other libraries too, one that ComfyUI can cast and offload alone.

    ComfyUI's layers are subclasses with another ``forward``, so the class is exchanged after loading. Building with
    them would not do: other libraries' blocks cannot be told to, and with dynamic VRAM they have no weights to
    initialise.
    """
    import comfy.ops

    for layer in model.modules():
        adopted = getattr(comfy.ops.manual_cast, type(layer).__name__, None)
        if adopted is not None and type(layer) in adopted.__mro__ and type(layer).__module__.startswith("torch.nn."):
            layer.__class__ = adopted


def _store_as(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of castable layers in ``dtype``; everything else stays float32."""
    for layer in model.modules():
        if hasattr(layer, "comfy_cast_weights"):
            layer.to(dtype)
