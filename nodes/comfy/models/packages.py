"""Packages beside ComfyUI's own that parts of the models use, and the exact command where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path

from ....mcdm_core.errors import PackageError
from ..interruption import check_interrupt

logger = logging.getLogger(__name__)

USED = {
    "diffusers": "the autoencoder of base, where none is connected",
    "soxr": "resampling of sound, which FFmpeg does less well",
}
"""What a supported ComfyUI does not bring itself, and what for."""
FASTER = {"cv2": ("opencv-python-headless", "finishing large pictures takes about twice as long")}
"""What is done without, at a price: module, package and price. Not in the list, where one of its variants is there."""
LIST = Path(__file__).resolve().parents[3] / "requirements.txt"


def missing_packages() -> list[str]:
    """Names of packages that this Python lacks."""
    return [package for package in USED if importlib.util.find_spec(package) is None]


def advice(missing: list[str]) -> str:
    """What is missing, what for, and the command that installs it into the Python that runs ComfyUI."""
    uses = " and ".join(f"{package} ({USED[package]})" for package in missing)
    return (
        f"MCDM uses {uses}, which ComfyUI's Python does not have. Run this command, then restart "
        f'ComfyUI:\n"{sys.executable}" -m pip install -r "{LIST}"'
    )


def import_package(package: str) -> None:
    """Import a package where a model that needs it is loaded; Cancel is heeded before and after.

    Raises:
        PackageError: with the command, if it is missing.
    """
    if package in missing_packages():
        raise PackageError(advice([package]))
    check_interrupt()
    importlib.import_module(package)
    check_interrupt()


def warn_at_start() -> None:
    """Say what is missing in ComfyUI's log when the pack is loaded; the nodes are there all the same."""
    missing = missing_packages()
    if missing:
        logger.warning("%s", advice(missing))
    for module, (package, price) in FASTER.items():
        if importlib.util.find_spec(module) is None:
            command = f'"{sys.executable}" -m pip install {package}'
            logger.info("MCDM works without %s, but %s. To mend that, run:\n%s", module, price, command)
