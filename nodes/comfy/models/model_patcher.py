"""MCDM's weights under ComfyUI's model management: offloading, freeing and moving happen with everybody else's."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ....mcdm_core.adapter import is_adapter
from ....mcdm_core.checkpoint import is_something_else
from ....mcdm_core.errors import OutOfMemoryError, WeightsError

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .pipeline_loading import ManagedPipeline

logger = logging.getLogger(__name__)

FOLDER = "mcdm"
SHIPPED = "tiny (shipped)"
BASE = "base (needs weights)"
"""Chosen without a file of its own, it tells what has to be brought."""
NO_ADAPTER = "none"
MISSING_MARK = "MCDM-MISSING-WEIGHTS:"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def register_folder() -> None:
    """Make ``models/mcdm`` known to ComfyUI, so that extra model paths work for it too."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


BASE_NEEDS = (
    (
        "mcdm_base.safetensors",
        "not published: assemble it of the files below and train it (docs/training.md)",
        "as its trainer says",
        FOLDER,
    ),
    (
        "Stable Diffusion 1.5's UNet and VAE",
        "https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5",
        "CreativeML Open RAIL-M",
        "checkpoints",
    ),
    (
        "AnimateDiff v2 motion module",
        "https://huggingface.co/guoyww/animatediff-motion-adapter-v1-5-2",
        "Apache-2.0",
        FOLDER,
    ),
    ("CLIP ViT-L/14 vision", "https://huggingface.co/openai/clip-vit-large-patch14", "MIT", "clip_vision"),
    ("Wav2Vec 2.0 base", "https://huggingface.co/facebook/wav2vec2-base-960h", "Apache-2.0", "audio_encoders"),
)
"""Name, source, licence and folder of what the ``base`` preset is made of."""


def available_models() -> list[str]:
    """The shipped model, the safetensors files in ``models/mcdm``, and ``base``, which says what it needs.

    Files of something else lie there too (an AnimateDiff motion module, of which ``base`` is assembled): no choice.
    """
    import folder_paths

    found = [SHIPPED]
    for name in sorted(folder_paths.get_filename_list(FOLDER)):
        path = folder_paths.get_full_path(FOLDER, name) if name.endswith(".safetensors") else None
        if path is not None and not is_something_else(path):
            found.append(name)
    return [*found, BASE]


def available_adapters() -> list[str]:
    """The adapters in ``models/mcdm``, and none."""
    import folder_paths

    names = [name for name in sorted(folder_paths.get_filename_list(FOLDER)) if name.endswith(".safetensors")]
    paths = ((name, folder_paths.get_full_path(FOLDER, name)) for name in names)
    return [NO_ADAPTER, *(name for name, path in paths if path is not None and is_adapter(path))]


@dataclass
class LoadedModel:
    """What the MODEL socket of this pack carries: a pipeline and the patcher that owns its weights' place.

    Attributes:
        pipeline: ``mcdm_core.pipeline.MCDMPipeline``.
        name: shown to the user.
    """

    pipeline: ManagedPipeline
    name: str
    patcher: ModelPatcher = field(init=False)

    def __post_init__(self) -> None:
        self.patcher = make_patcher(self.pipeline.model)

    def ready(self, working_bytes: int = 0) -> ManagedPipeline:
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


def make_patcher(module: torch.nn.Module) -> ModelPatcher:
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


def weight_path(name: str) -> Path:
    """The file of a model's name.

    Raises:
        WeightsError: if it is not there; the message names file, source, licence and folder.
    """
    import folder_paths

    if name == SHIPPED:
        from ....mcdm_core.pipeline import preset_weights

        path = preset_weights("tiny")
        if path.is_file():
            return path
        repository = "this pack's repository (mcdm_core/assets)"
        raise missing_weights([_file("mcdm_tiny.safetensors", repository, "Apache-2.0", str(path.parent))])
    if name == BASE:
        raise missing_weights(needed_files()[BASE])
    found = folder_paths.get_full_path(FOLDER, name)
    if found is None:
        folder = folder_paths.get_folder_paths(FOLDER)[0]
        raise missing_weights([_file(name, "whoever trained it", "as its author says", folder)])
    return Path(found)


def needed_files() -> dict[str, list[dict[str, str]]]:
    """By model: the files it needs that are not there."""
    import folder_paths

    def place(folder: str) -> str:
        known = folder_paths.get_folder_paths(folder) if folder in folder_paths.folder_names_and_paths else []
        return known[0] if known else f"models/{folder}"

    return {BASE: [_file(name, source, licence, place(folder)) for name, source, licence, folder in BASE_NEEDS]}


def _file(name: str, source: str, licence: str, folder: str) -> dict[str, str]:
    return {"name": name, "source": source, "licence": licence, "folder": folder}


def missing_weights(files: list[dict[str, str]]) -> WeightsError:
    """The error for missing files, with what the front end shows beneath a marker."""
    import json

    lines = [
        f"{file['name']} into {file['folder']} (source: {file['source']}, licence: {file['licence']})" for file in files
    ]
    missing = "weights are" if len(files) > 1 else f"weights {files[0]['name']} are"
    return WeightsError(
        f"The {missing} missing. Put {'; '.join(lines)}. Then run again.\n{MISSING_MARK}{json.dumps({'files': files})}"
    )
