"""Modules of the node pack that need no ComfyUI, and frames and sounds to feed them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def pack_module(name: str) -> ModuleType:
    """A module of the pack, imported as ComfyUI does: under a package that is named after the folder."""
    if "mcdm_pack_under_test" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "mcdm_pack_under_test", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec and spec.loader
        package = importlib.util.module_from_spec(spec)
        sys.modules["mcdm_pack_under_test"] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"mcdm_pack_under_test.nodes.{name}")


def counted_frames(first: int, count: int, size: int = 32) -> torch.Tensor:
    """Grey frames whose brightness is their number."""
    levels = (torch.arange(first, first + count).float() * 4 + 20) / 255
    return levels[:, None, None, None].expand(-1, 3, size, size).contiguous()


def tone(seconds: float, rate: int = 44_100) -> Any:
    """A steady tone."""
    sound = 0.3 * torch.sin(torch.arange(round(seconds * rate)) * 0.06)
    return pack_module("comfy.media.media_bridge").Audio(sound[None], rate)
