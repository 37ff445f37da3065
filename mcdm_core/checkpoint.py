"""Weight files: one safetensors file a model, keys prefixed by component, the configuration in the metadata."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .config import MCDMConfig, from_json, to_json
from .errors import WeightsError

logger = logging.getLogger(__name__)

COMPONENTS = (
    "vae",
    "face_network",
    "motion_codec",
    "audio_encoder",
    "image_encoder",
    "present_clip_prior",
    "archived_clip_prior",
    "unet",
)
CONFIG_KEY = "mcdm_config"

StateDict = dict[str, Tensor]


def save_checkpoint(
    path: str | Path,
    states: Mapping[str, Mapping[str, Tensor]],
    config: MCDMConfig,
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the state dicts of components to one safetensors file.

    Args:
        path: of the file; its folder is made.
        states: state dict by component name (:data:`COMPONENTS`).
        config: stored as JSON in the metadata.
        dtype: floating tensors are stored so (``torch.float16`` to ship); None keeps them.
        metadata: further strings.

    Raises:
        WeightsError: for an unknown component, or values that overflow or are not finite in ``dtype``.
    """
    from safetensors.torch import save_file

    flat: StateDict = {}
    for component, state in states.items():
        if component not in COMPONENTS:
            raise WeightsError(f"{component!r} is not a component; expected one of {', '.join(COMPONENTS)}.")
        for key, tensor in state.items():
            value = tensor.detach().cpu()
            if dtype is not None and value.is_floating_point():
                value = value.to(dtype)
                if not torch.isfinite(value).all():
                    raise WeightsError(
                        f"{component}.{key} is not finite as {dtype}; its training diverged, or store it in float32."
                    )
            flat[f"{component}.{key}"] = value.clone(memory_format=torch.contiguous_format)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(flat, str(path), metadata={**(metadata or {}), CONFIG_KEY: to_json(config), "format": "pt"})


def load_checkpoint(path: str | Path) -> tuple[MCDMConfig, dict[str, StateDict]]:
    """Read a weight file; half precision becomes float32.

    Returns:
        The configuration and the state dict of every component the file holds.

    Raises:
        WeightsError: if the file is missing, damaged, or without a configuration.
    """
    tensors, metadata = _read(Path(path))
    if CONFIG_KEY not in metadata:
        raise WeightsError(
            f"{Path(path).name} holds no MCDM configuration (metadata key {CONFIG_KEY!r}); give a file written by "
            "`python -m mcdm_core train` or bundled from its parts."
        )
    try:
        config = from_json(metadata[CONFIG_KEY])
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{Path(path).name}: {error}") from error
    states: dict[str, StateDict] = {}
    for key, tensor in tensors.items():
        component, _, name = key.partition(".")
        if component not in COMPONENTS:
            raise WeightsError(f"{Path(path).name} has the unknown key {key!r}; it is no MCDM weight file.")
        states.setdefault(component, {})[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return config, states


def load_directory(directory: str | Path) -> tuple[MCDMConfig | None, dict[str, StateDict]]:
    """Collect ``<component>.safetensors`` files of a training directory; missing ones are left out.

    A file may hold several components under their prefixes, or one with bare keys.

    Raises:
        WeightsError: if the directory holds none of them.
    """
    directory = Path(directory)
    config: MCDMConfig | None = None
    states: dict[str, StateDict] = {}
    for component in COMPONENTS:
        path = directory / f"{component}.safetensors"
        if not path.is_file():
            continue
        tensors, metadata = _read(path)
        if CONFIG_KEY in metadata:
            config = from_json(metadata[CONFIG_KEY])
        for key, tensor in tensors.items():
            prefix, _, name = key.partition(".")
            # A module may have a child of a component's name, so only a fully prefixed file is split.
            if prefix in COMPONENTS and all(k.partition(".")[0] in COMPONENTS for k in tensors):
                if prefix == component or not (directory / f"{prefix}.safetensors").is_file():
                    states.setdefault(prefix, {})[name] = tensor
            else:
                states.setdefault(component, {})[key] = tensor
    if not states:
        names = ", ".join(f"{name}.safetensors" for name in COMPONENTS)
        raise WeightsError(f"{directory} holds no weights; expected some of {names}.")
    return config, states


def bundle(ckpt_dir: str | Path, output: str | Path, config: MCDMConfig | None = None) -> Path:
    """Join a training directory's components into one half-precision file.

    Args:
        ckpt_dir: directory of ``<component>.safetensors``.
        output: the file to write.
        config: needed only if none of the parts carries one.

    Returns:
        ``output`` as a path.

    Raises:
        WeightsError: if components or the configuration are missing.
    """
    found, states = load_directory(ckpt_dir)
    config = config or found
    if config is None:
        raise WeightsError(f"No file in {ckpt_dir} carries a configuration; pass one, for instance config.TINY.")
    missing = [name for name in COMPONENTS if name not in states]
    if missing:
        raise WeightsError(f"{ckpt_dir} lacks {', '.join(missing)}; train those stages first.")
    save_checkpoint(output, states, config, dtype=torch.float16)
    logger.info("bundled %d tensors into %s", sum(len(state) for state in states.values()), output)
    return Path(output)


def fingerprint(states: Mapping[str, Mapping[str, Tensor]], config: MCDMConfig) -> str:
    """Short name of a model: a hash of its configuration, shapes and a sample of every tensor's values.

    Values are compared in half precision, so a bundle and the parts it was made from agree.
    """
    digest = hashlib.sha256(to_json(config).encode())
    for component in sorted(states):
        for key in sorted(states[component]):
            tensor = states[component][key].detach()
            flat = tensor.reshape(-1)[:: max(1, tensor.numel() // 64)][:64].cpu().float().half()
            digest.update(f"{component}.{key}{tuple(tensor.shape)}".encode())
            digest.update(flat.numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path) -> tuple[StateDict, dict[str, str]]:
    from safetensors import safe_open

    if not path.is_file():
        raise WeightsError(f"There is no weight file at {path}. Check the path.")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = dict(file.metadata() or {})
            return {key: file.get_tensor(key) for key in file.keys()}, metadata
    except Exception as error:  # the reader raises its own untyped errors for damaged files
        raise WeightsError(f"{path.name} cannot be read as safetensors ({error}); get the file again.") from error
