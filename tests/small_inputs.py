"""What ``generate`` needs on disk to make a small video with a model of random weights, and its options for it."""

from __future__ import annotations

import wave
from pathlib import Path

from PIL import Image
from torch import Tensor

from mcdm_core.checkpoint import save_checkpoint
from mcdm_core.pipeline import MCDMPipeline

_OPTIONS = "--box 40 50 120 130 --steps 1 --motion-steps 1"
"""Where the face of the portrait is said to be, and as few steps as can be."""


def write_inputs(folder: Path, pipe: MCDMPipeline, portrait: Tensor, voice: Tensor) -> list[str]:
    """Write ``model.safetensors``, ``portrait.png`` and ``voice.wav``; returns the options that go with them.

    Args:
        portrait: ``[3, h, w]`` in [0, 1]; voice: samples at 16 kHz in [-1, 1].
    """
    save_checkpoint(folder / "model.safetensors", pipe.model.states(), pipe.config)
    Image.fromarray((portrait * 255).byte().permute(1, 2, 0).numpy()).save(folder / "portrait.png")
    with wave.open(str(folder / "voice.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((voice.clamp(-1, 1) * 32767).short().numpy().tobytes())
    return ["--weights", str(folder / "model.safetensors"), *_OPTIONS.split()]


def given(folder: Path) -> list[str]:
    """The options of ``generate`` that name portrait and voice."""
    return ["--portrait", str(folder / "portrait.png"), "--audio", str(folder / "voice.wav")]
