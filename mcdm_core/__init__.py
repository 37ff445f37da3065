"""MCDM: talking faces of any length by motion-prior conditional diffusion (arXiv 2502.09533).

The heavy modules load on first use: ``from mcdm_core.pipeline import MCDMPipeline``.
"""

from __future__ import annotations

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """Import the pipeline's classes only when they are asked for."""
    if name in ("MCDMPipeline", "Reference", "AudioEmbedding", "Clip"):
        from . import pipeline

        return getattr(pipeline, name)
    if name == "MotionMemory":
        from .pipeline.memory import MotionMemory

        return MotionMemory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
