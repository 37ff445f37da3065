"""MCDM: talking faces of any length by motion-prior conditional diffusion (arXiv 2502.09533).

The heavy modules load on first use: ``from mcdm_core.pipeline import MCDMPipeline``.
"""

from __future__ import annotations

__version__ = "0.1.0"
