"""Packages the models need beside ComfyUI's own: imported in time, or a message with the exact command."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

from ...mcdm_core.errors import MCDMError
from ...mcdm_core.librosa_loading import load_librosa
from .interruption import check_interrupt

logger = logging.getLogger(__name__)

NEEDED = {"diffusers": "diffusers.models.resnet", "librosa": "librosa"}
"""Package, and what is imported of it, of what a supported ComfyUI does not bring itself."""
LIST = Path(__file__).resolve().parents[2] / "requirements.txt"


def missing_packages() -> list[str]:
    """Names of packages that this Python lacks."""
    return [package for package in NEEDED if importlib.util.find_spec(package) is None]


def advice(missing: list[str]) -> str:
    """What is missing and the command that installs it into the Python that runs ComfyUI."""
    return (
        f"MCDM needs {' and '.join(missing)}, which ComfyUI's Python does not have. Run this command, then restart "
        f'ComfyUI:\n"{sys.executable}" -m pip install -r "{LIST}"'
    )


def import_packages() -> None:
    """Import them where a model is loaded: later, a node that should stop at once would be kept for seconds by it.

    Raises:
        MCDMError: with the command, if a package is missing.
    """
    missing = missing_packages()
    if missing:
        raise MCDMError(advice(missing))
    for module in NEEDED.values():
        check_interrupt()
        importlib.import_module(module)
    check_interrupt()
    load_librosa()


def warn_at_start() -> None:
    """Say the same in ComfyUI's log when the pack is loaded; the nodes are there all the same."""
    missing = missing_packages()
    if missing:
        logger.warning("%s", advice(missing))
