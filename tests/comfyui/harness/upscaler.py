"""A small upscale model in a published layout."""

from __future__ import annotations

from pathlib import Path

UPSCALER = "compact_x2_for_tests.safetensors"


def write_upscaler(path: Path) -> None:
    """A very small RealESRGAN Compact of factor two: spandrel knows it by its keys. It adds a little to the picture."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    width, state = 8, {}
    for index, (inputs, outputs) in enumerate(((3, width), (width, width), (width, 3 * 2 * 2))):
        state[f"body.{2 * index}.weight"] = torch.randn(outputs, inputs, 3, 3) * 0.02
        state[f"body.{2 * index}.bias"] = torch.zeros(outputs)
        if index < 2:
            state[f"body.{2 * index + 1}.weight"] = torch.full((width,), 0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, str(path))
