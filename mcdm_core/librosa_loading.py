"""librosa where its folder and the home folder are read-only: it compiles functions on import and stores them."""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import shutil
import sys
import tempfile

logger = logging.getLogger(__name__)

_PARTS = ("librosa.core.audio", "librosa.filters")


@functools.cache
def load_librosa() -> None:
    """Import what is used of librosa; if it finds no place for its compiled functions, give it a temporary one.

    Raises:
        ImportError: if librosa or a part of it is not installed.
    """
    try:
        _import_parts()
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        import numba

        folder = tempfile.mkdtemp(prefix="mcdm_numba_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        logger.info("librosa cannot write beside itself or at home; it compiles its functions into %s.", folder)
        numba.config.CACHE_DIR = folder  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue] made at run time
        for name in [name for name in sys.modules if name.partition(".")[0] == "librosa"]:
            del sys.modules[name]
        _import_parts()


def _import_parts() -> None:
    for part in _PARTS:
        importlib.import_module(part)
