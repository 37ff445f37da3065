"""Packages the models need beside ComfyUI's own: a message with the exact command where one is missing."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

from ..mcdm_core.errors import MCDMError

logger = logging.getLogger(__name__)

NEEDED = {"diffusers": "diffusers", "librosa": "librosa"}
"""Module and package, of what a supported ComfyUI does not bring itself."""
LIST = Path(__file__).resolve().parents[1] / "requirements.txt"


def missing_packages() -> list[str]:
    """Names of packages that this Python lacks."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def advice(missing: list[str]) -> str:
    """What is missing and the command that installs it into the Python that runs ComfyUI."""
    return (
        f"MCDM needs {' and '.join(missing)}, which ComfyUI's Python does not have. Run this command, then restart "
        f'ComfyUI:\n"{sys.executable}" -m pip install -r "{LIST}"'
    )


def require_packages() -> None:
    """Called before the models are built.

    Raises:
        MCDMError: with the command, if a package is missing.
    """
    missing = missing_packages()
    if missing:
        raise MCDMError(advice(missing))


def warn_at_start() -> None:
    """Say the same in ComfyUI's log when the pack is loaded; the nodes are there all the same."""
    missing = missing_packages()
    if missing:
        logger.warning("%s", advice(missing))
