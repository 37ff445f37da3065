"""Which files Load MCDM Model offers, without a ComfyUI: ``folder_paths`` is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from mcdm_core.checkpoint import save_checkpoint
from mcdm_core.config import TINY

from .fixtures import pack_module

model_patcher = pack_module("comfy.models.model_patcher")


def test_files_of_something_else_are_no_choice(tmp_path: Path, monkeypatch) -> None:
    """A whole model and a damaged file are; a motion module, a part of a training and a picture are not."""
    tensor = {"x": torch.zeros(1)}
    whole = {"unet": tensor, "face_network": tensor, "present_clip_prior": tensor}
    save_checkpoint(tmp_path / "whole.safetensors", whole, TINY)
    save_checkpoint(tmp_path / "part.safetensors", {"unet": tensor}, TINY)
    save_file({"down_blocks.0.motion_modules.0.norm.weight": torch.zeros(1)}, str(tmp_path / "mm.safetensors"))
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:40])
    (tmp_path / "picture.png").touch()
    folder = SimpleNamespace(
        get_filename_list=lambda name: sorted(path.name for path in tmp_path.iterdir()),
        get_full_path=lambda name, file: str(tmp_path / file),
    )
    monkeypatch.setitem(sys.modules, "folder_paths", folder)
    assert model_patcher.available_models() == [
        model_patcher.SHIPPED,
        "damaged.safetensors",
        "whole.safetensors",
        model_patcher.BASE,
    ]
