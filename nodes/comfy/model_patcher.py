"""MCDM's weights under ComfyUI's model management: offloading, freeing and moving happen with everybody else's."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...mcdm_core.errors import OutOfMemoryError, WeightsError

logger = logging.getLogger(__name__)

FOLDER = "mcdm"
SHIPPED = "tiny (shipped)"
MISSING_MARK = "MCDM-MISSING-WEIGHTS:"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def register_folder() -> None:
    """Make ``models/mcdm`` known to ComfyUI, so that extra model paths work for it too."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def available_models() -> list[str]:
    """The shipped model, then the safetensors files in ``models/mcdm``."""
    import folder_paths

    files = [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")]
    return [SHIPPED, *sorted(files)]


@dataclass
class LoadedModel:
    """What the MODEL socket of this pack carries: a pipeline and the patcher that owns its weights' place.

    Attributes:
        pipeline: ``mcdm_core.pipeline.MCDMPipeline``.
        name: shown to the user.
    """

    pipeline: Any
    name: str
    patcher: Any = field(default=None)

    def __post_init__(self) -> None:
        if self.patcher is None:
            self.patcher = make_patcher(self.pipeline.model)

    def ready(self, working_bytes: int = 0) -> Any:
        """The pipeline with its weights where ComfyUI wants them.

        Args:
            working_bytes: estimate of activations; ComfyUI frees that much beside the weights.

        Raises:
            OutOfMemoryError: if they don't fit.
        """
        import comfy.model_management as management

        try:
            management.load_models_gpu([self.patcher], memory_required=working_bytes)
        except management.OOM_EXCEPTION as error:
            raise OutOfMemoryError(
                f"The weights of {self.name} do not fit into the device's memory. Close other programs, choose "
                "dtype bfloat16, or start ComfyUI with --lowvram."
            ) from error
        bring_strays(self.pipeline.model, self.patcher.load_device)
        self.pipeline.use_device(self.patcher.load_device)
        return self.pipeline


class MCDMWeights(torch.nn.Module):
    """Holds the model for the patcher, which writes attributes of its own (``device``) onto what it is given."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model


def bring_strays(model: torch.nn.Module, device: torch.device) -> None:
    """Move what is not a layer's (learnt queries, positions, statistics; a thousandth of the weights) to ``device``.

    When ComfyUI loads a model in part it only moves layers; older versions leave the rest behind.
    """
    for module in model.modules():
        if hasattr(module, "comfy_cast_weights"):
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.device != device:
                tensor.data = tensor.data.to(device)


def make_patcher(module: torch.nn.Module) -> Any:
    """Wrap a module the way this ComfyUI wants it; looked up per call, since ``main.py`` may swap the class."""
    import comfy.model_management as management
    import comfy.model_patcher as patchers

    cls = getattr(patchers, "CoreModelPatcher", patchers.ModelPatcher)
    return cls(
        MCDMWeights(module),
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )


def choose_dtype(name: str, parameters: int) -> torch.dtype:
    """The dtype of a choice; ``auto`` asks ComfyUI what the device is good at."""
    import comfy.model_management as management

    if name != "auto":
        return DTYPES[name]
    device = management.get_torch_device()
    if management.should_use_bf16(device, model_params=parameters):
        return torch.bfloat16
    return torch.float32


def weight_path(name: str) -> Path | None:
    """The file of a model's name, None for the shipped one.

    Raises:
        WeightsError: if it is not there; the message names file, source, licence and folder.
    """
    import folder_paths

    if name == SHIPPED:
        from ...mcdm_core.pipeline import preset_weights

        path = preset_weights("tiny")
        if path.is_file():
            return path
        raise missing_weights(
            "mcdm_tiny.safetensors", "this pack's repository (mcdm_core/assets)", "Apache-2.0", str(path.parent)
        )
    found = folder_paths.get_full_path(FOLDER, name)
    if found is None:
        folder = folder_paths.get_folder_paths(FOLDER)[0]
        raise missing_weights(name, "whoever trained it", "as its author says", folder)
    return Path(found)


def missing_weights(name: str, source: str, licence: str, folder: str) -> WeightsError:
    """The error for a missing file, with what the front end shows beneath a marker."""
    import json

    files = {"files": [{"name": name, "source": source, "licence": licence, "folder": folder}]}
    return WeightsError(
        f"The weights {name} are missing. Put the file into {folder} and run again (source: {source}, licence: "
        f"{licence}).\n{MISSING_MARK}{json.dumps(files)}"
    )
