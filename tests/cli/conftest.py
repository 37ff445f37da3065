"""What commands on a model of random weights need on disk."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from mcdm_core.checkpoint import save_checkpoint
from mcdm_core.pipeline import MCDMPipeline


@pytest.fixture
def small_options(pipe: MCDMPipeline, portrait: Tensor, voice: Tensor, tmp_path: Path) -> list[str]:
    """Options of ``generate`` for the random model; ``portrait.png`` and ``voice.wav`` lie in ``tmp_path``."""
    save_checkpoint(tmp_path / "model.safetensors", pipe.model.states(), pipe.config)
    Image.fromarray((portrait * 255).byte().permute(1, 2, 0).numpy()).save(tmp_path / "portrait.png")
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((voice.clamp(-1, 1) * 32767).short().numpy().tobytes())
    return [
        "--weights",
        str(tmp_path / "model.safetensors"),
        "--box",
        "40",
        "50",
        "120",
        "130",
        "--steps",
        "1",
        "--motion-steps",
        "1",
    ]
