"""From a portrait and a voice to a video: the model's parts at work. The heavy modules load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import AudioEmbedding, Clip, MCDMPipeline, Reference, preset_weights

__all__ = ["AudioEmbedding", "Clip", "MCDMPipeline", "Reference", "preset_weights"]


def __getattr__(name: str) -> object:
    """Import the pipeline only when it is asked for: ComfyUI starts without torch's libraries."""
    if name in __all__:
        from . import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
