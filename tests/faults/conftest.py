"""One setting for all faults."""

from __future__ import annotations

import pytest

from .setting import Setting


@pytest.fixture(scope="session")
def setting(pipe, portrait, tmp_path_factory) -> Setting:
    """One for all faults."""
    return Setting(tmp_path_factory.mktemp("faults"), pipe, portrait)
