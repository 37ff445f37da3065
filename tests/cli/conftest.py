"""What commands on a model of random weights need on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from mcdm_core.pipeline import MCDMPipeline
from tests.small_inputs import write_inputs


@pytest.fixture
def small_options(pipe: MCDMPipeline, portrait: Tensor, voice: Tensor, tmp_path: Path) -> list[str]:
    """Options of ``generate`` for the random model; ``portrait.png`` and ``voice.wav`` lie in ``tmp_path``."""
    return write_inputs(tmp_path, pipe, portrait, voice)
