"""What sampling needs beside the weights, and what is done where memory does not suffice."""

from __future__ import annotations

import functools
import gc
from typing import TYPE_CHECKING, Any

from ....mcdm_core.errors import failures_told, is_out_of_memory

if TYPE_CHECKING:
    from comfy_api.latest import io

    from ....mcdm_core.pipeline import MCDMPipeline
    from .model_patcher import LoadedModel

ADVICE = "Close other programs, or make the picture smaller; on a GPU, start ComfyUI with --lowvram."
"""What helps where memory is short."""
_ROOM = 4
"""So many times what sampling is estimated to need is freed after it did not suffice."""


def working_bytes(pipeline: MCDMPipeline) -> int:
    """Bytes of activations of one clip, generously.

    The widest feature maps of the UNet (first level) are kept a few dozen times over during a step. The decoder's
    full-resolution maps are kept about as often.
    """
    config = pipeline.config
    latents = config.clip_frames * config.unet.latent_size**2
    unet = latents * config.unet.block_channels[0] * 24
    decoder = config.clip_frames * config.image_size**2 * config.vae.block_channels[0] * 4
    return int(max(unet, decoder) * 4)


def make_room(model: LoadedModel) -> None:
    """After a shortage: unload other models and give back what torch keeps; this model stays ready."""
    import comfy.model_management as management

    gc.collect()
    model.ready(_ROOM * working_bytes(model.pipeline))
    management.soft_empty_cache()


def name_shortages(node: type[io.ComfyNode]) -> None:
    """Let a node whose run is short of memory end in one line of ours, not in a bare ``MemoryError``.

    ComfyUI unloads all models after an error of its GPU's memory; after ours, which hides that, it is done here.
    """
    execute = node.execute.__func__  # type: ignore[attr-defined]

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *arguments: Any, **named: Any) -> Any:
        with failures_told(ADVICE):
            try:
                return execute(cls, *arguments, **named)
            except Exception as error:
                if is_out_of_memory(error):
                    _unload_all()
                raise

    node.execute = classmethod(run)  # type: ignore[assignment]


def _unload_all() -> None:
    import comfy.model_management as management

    management.unload_all_models()
    management.soft_empty_cache()
