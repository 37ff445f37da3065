"""Modules of the node pack that need no ComfyUI, and frames and sounds to feed them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


def pack_core(name: str) -> ModuleType:
    """A module of the core as the pack has it: beside that of the tests, with classes of its own."""
    pack_module("comfy")
    return importlib.import_module(f"mcdm_pack_under_test.mcdm_core.{name}")


def counted_frames(first: int, count: int, size: int = 32) -> torch.Tensor:
    """Grey frames whose brightness is their number."""
    levels = (torch.arange(first, first + count).float() * 4 + 20) / 255
    return levels[:, None, None, None].expand(-1, 3, size, size).contiguous()


def tone(seconds: float, rate: int = 44_100) -> Any:
    """A steady tone."""
    sound = 0.3 * torch.sin(torch.arange(round(seconds * rate)) * 0.06)
    return pack_module("comfy.media.media_bridge").Audio(sound[None], rate)


def comfyui_stubs(output: Path) -> dict[str, ModuleType]:
    """The modules of ComfyUI that a job which makes a video asks, as far as it does: put them into ``sys.modules``."""

    def module(name: str, **members: Any) -> ModuleType:
        made = ModuleType(name)
        vars(made).update(members)
        return made

    bar = SimpleNamespace(update_absolute=lambda *arguments: None)
    features = module("comfy_api.feature_flags", supports_feature=lambda *arguments: False)
    management = module(
        "comfy.model_management",
        throw_exception_if_processing_interrupted=lambda: None,
        unload_all_models=lambda: None,
        soft_empty_cache=lambda: None,
    )
    utils = module("comfy.utils", ProgressBar=lambda total: bar)
    modules = [
        module("comfy", model_management=management, utils=utils),
        management,
        utils,
        module("comfy_api", feature_flags=features),
        features,
        module("server", PromptServer=SimpleNamespace(instance=None)),
        module("folder_paths", get_directory_by_type=lambda kind: str(output)),
    ]
    return {made.__name__: made for made in modules}


def video_job(folder: Path, pipe: Any, frames: int, make_room: Any = lambda: None) -> Any:
    """A job of the nodes for so many frames, in a run folder; close its ``run`` in the end."""
    run = pack_core("pipeline.run.run_folder").RunFolder(folder)
    node, size = pack_module("comfy.page.node_run").NodeRun("7"), (pipe.config.image_size,) * 2
    make = pack_module("jobs.video_job").VideoJob
    return make(node, pipe, tone(frames / 25), 25.0, frames, size, run, make_room)
