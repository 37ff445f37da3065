"""From a weight file to a pipeline whose layers ComfyUI can cast and offload one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..mcdm_core.checkpoint import load_checkpoint
from ..mcdm_core.errors import WeightsError
from ..mcdm_core.model import MCDMModel
from ..mcdm_core.pipeline import MCDMPipeline
from .base_components import borrowed_components
from .interruption import make_interruptible
from .model_patcher import choose_dtype


class ManagedPipeline(MCDMPipeline):
    """A pipeline that computes where ComfyUI says, also while some of its weights lie elsewhere."""

    _device: torch.device | None = None

    def use_device(self, device: torch.device) -> None:
        """Compute here from now on."""
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device if self._device is not None else self.model.device


def load_pipeline(
    path: Path, dtype: str, attention: str, *, vae: Any = None, clip_vision: Any = None, audio_encoder: Any = None
) -> ManagedPipeline:
    """Read a weight file and build its model with ComfyUI's layers.

    Args:
        dtype: of the stored weights; each layer computes in its input's float32, so results hardly depend on it.
        attention: ``exact`` or ``favor`` for the temporal attention, anything else keeps the model's own.

    Raises:
        WeightsError: if the file is damaged, or lacks components that no socket supplies.
    """
    import comfy.ops

    config, states, stage = load_checkpoint(path)
    parts = borrowed_components(config, vae, clip_vision, audio_encoder)
    model = MCDMModel(config, operations=comfy.ops.manual_cast)
    for name, part in parts.items():
        setattr(model, name, part)
    missing = [name for name in model.load_states(states, allow_missing=True) if name not in parts]
    if missing:
        sockets = {"vae": "vae", "image_encoder": "clip_vision", "audio_encoder": "audio_encoder"}
        hint = ", ".join(sockets[name] for name in missing if name in sockets)
        raise WeightsError(
            f"{path.name} lacks {', '.join(missing)}. "
            + (f"Connect {hint} of Load MCDM Model to ComfyUI's own loaders." if hint else "Get the whole file.")
        )
    if attention in ("exact", "favor"):
        model.unet.set_temporal_attention(attention)
    make_interruptible(model)
    pipeline = ManagedPipeline(model, stage)
    _store_as(model, choose_dtype(dtype, sum(weight.numel() for weight in model.parameters())))
    return pipeline


def _store_as(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of castable layers in ``dtype``; everything else stays float32."""
    if dtype == torch.float32:
        return
    for layer in model.modules():
        if hasattr(layer, "comfy_cast_weights"):
            layer.to(dtype)
