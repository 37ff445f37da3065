"""Figures of the field by networks that others published: Fréchet distances (FID, FVD, E-FID) and SyncNet's scores.

No network comes with this project. Whoever has the weights exports them once to ONNX (``docs/evaluation.md`` says how).
"""

from .compare import Measured, compare, videos_of

__all__ = ["Measured", "compare", "videos_of"]
