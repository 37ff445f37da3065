"""Weight files: one safetensors file a model, keys prefixed by component, the configuration in the metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .config import FaceNetworkConfig, MCDMConfig, differences, to_json
from .errors import WeightsError
from .files import read_tensors, write_tensors
from .stored_config import from_json

if TYPE_CHECKING:
    from .face.reading.face_network import FaceNetwork

logger = logging.getLogger(__name__)

COMPONENTS = (
    "vae",
    "part_decoder",
    "face_network",
    "motion_codec",
    "audio_encoder",
    "image_encoder",
    "present_clip_prior",
    "archived_clip_prior",
    "unet",
)
"""Names of the networks; a model has those of :func:`components_of` its configuration."""
CONFIG_KEY = "mcdm_config"

STAGE_KEY = "stage"
LAST_STAGE = 3
"""Training stage of a finished UNet (section 3.5); one of stage 1 runs without layer 4 (see pipeline/pipeline.py)."""
_ALIASES = {"face": "face_network", "codec": "motion_codec", "part_decoder_sight": "part_decoder"}
_PART_FILES = ("face", "codec", *COMPONENTS[:-1], "part_decoder_sight", "prior", "unet_stage1", "unet_stage3", "unet")
"""Names of part files in the order they are read; later ones win."""
RETELLING = "retelling"
"""Prefix of maps that a stage trains beside its networks (``training/parts/retelling.py``). Each stage begins its own,
and no model has them."""
_PART_READER = "part_reader"
"""File of the face network's second reading, which is trained by itself."""

StateDict = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """Configuration, state dict of every component found, and the UNet's training stage."""

    config: MCDMConfig
    states: dict[str, StateDict]
    stage: int = LAST_STAGE


def components_of(config: MCDMConfig) -> tuple[str, ...]:
    """Names of the networks that a model has.

    >>> set(COMPONENTS) - set(components_of(MCDMConfig()))
    {'part_decoder'}
    """
    return tuple(name for name in COMPONENTS if name != "part_decoder" or config.part_decoder.block_channels)


def save_checkpoint(
    path: str | Path,
    states: Mapping[str, Mapping[str, Tensor]],
    config: MCDMConfig,
    *,
    dtype: torch.dtype | None = None,
    stage: int = LAST_STAGE,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the state dicts of components to one safetensors file.

    Args:
        path: of the file; its folder is made.
        states: state dict by component name (:data:`COMPONENTS`).
        config: stored as JSON in the metadata.
        dtype: floating tensors are stored so (``torch.float16`` to ship); None keeps them.
        stage: the UNet's training stage.
        metadata: further strings.

    Raises:
        WeightsError: for an unknown component, or values that overflow or are not finite in ``dtype``.
        MediaError: if the file cannot be written.
    """
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
    own = {CONFIG_KEY: to_json(config), STAGE_KEY: str(stage), "format": "pt"}
    write_tensors(path, flat, {**(metadata or {}), **own})


def is_something_else(path: str | Path) -> bool:
    """Whether a safetensors file holds something else than a whole MCDM model, told by its header alone.

    Other models' files and parts of a training do; of a damaged file nothing is known, and reading it says what is
    wrong with it.
    """
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as file:
            described = CONFIG_KEY in (file.metadata() or {})
            found = {key.partition(".")[0] for key in file.keys()}
    except Exception:  # the reader raises its own untyped errors for damaged files
        return False
    # Encoders and the autoencoder may be left out: sockets can bring them.
    return not (described and found <= set(COMPONENTS) and {"unet", "face_network", "present_clip_prior"} <= found)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weight file; half precision becomes float32.

    Raises:
        WeightsError: if the file is missing, damaged, or without a configuration.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    if CONFIG_KEY not in metadata:
        raise WeightsError(
            f"{path.name} holds no MCDM configuration (metadata key {CONFIG_KEY!r}); give a file written by "
            "`python -m mcdm_core train` or bundled from its parts."
        )
    states: dict[str, StateDict] = {}
    for key, tensor in tensors.items():
        component, _, name = key.partition(".")
        if component not in COMPONENTS:
            raise WeightsError(f"{path.name} has the unknown key {key!r}; it is no MCDM weight file.")
        states.setdefault(component, {})[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    config = _upgrade(states, _config(path, metadata))
    return Checkpoint(config, states, _stage(path, metadata))


def load_weights(path: Path, config: MCDMConfig | None = None) -> Checkpoint:
    """Read a weight file, or a training directory's parts (see :func:`load_directory` for ``config``).

    Raises:
        WeightsError: if there are none, or they cannot be used.
    """
    return load_directory(path, config) if path.is_dir() else load_checkpoint(path)


def component_state(path: str | Path, component: str) -> StateDict:
    """State dict of one component, of a file that holds it with or without its prefix.

    Raises:
        WeightsError: if the file is missing or damaged.
    """
    tensors, _ = _read(Path(path))
    own = {key.partition(".")[2]: value for key, value in tensors.items() if key.partition(".")[0] == component}
    return own or tensors


def load_face_network(path: Path) -> FaceNetwork:
    """The face network alone, of a weight file or a training folder, ready to read.

    Raises:
        WeightsError: if there is none in it, or the file is missing or damaged.
    """
    return face_network_of(load_weights(path), path)


def face_network_of(found: Checkpoint, path: Path) -> FaceNetwork:
    """:func:`load_face_network` of what was read of ``path``."""
    from .face.reading.face_network import FaceNetwork

    if "face_network" not in found.states:
        raise WeightsError(
            f"{path} holds no face network. Give a whole model's file, or train one: python -m mcdm_core train face."
        )
    network = FaceNetwork(found.config)
    network.load_state_dict(found.states["face_network"])
    return network.eval()


def load_directory(directory: str | Path, config: MCDMConfig | None = None) -> Checkpoint:
    """Collect the parts of a training directory; missing ones are left out.

    A part is ``<component>.safetensors`` with bare keys, or a file whose keys all carry components' prefixes. The prior
    comes so with its encoders, the UNet with the archived-clip prior. Of UNets the furthest stage counts. Parts may
    have been trained under different configurations. Each component's section comes from the file that holds it, the
    rest from the last one read, the UNet's as a rule. ``part_reader.safetensors`` becomes a part of the face network.

    Args:
        config: of the whole, in place of the parts'; needed only if none of them carries one.

    Raises:
        WeightsError: if the directory holds no part, or no configuration.
    """
    directory = Path(directory)
    states: dict[str, StateDict] = {}
    stage, given = LAST_STAGE, config
    sections: dict[str, Any] = {}
    for stem in _PART_FILES:
        path = directory / f"{stem}.safetensors"
        if not path.is_file():
            continue
        tensors, metadata = _read(path)
        own = _config(path, metadata) if CONFIG_KEY in metadata else None
        config = own or config
        if "unet" in stem:
            stage = _stage(path, metadata)
        found: dict[str, StateDict] = {}
        if {key.partition(".")[0] for key in tensors} <= {*COMPONENTS, RETELLING}:
            for key, tensor in tensors.items():
                prefix, _, name = key.partition(".")
                if prefix != RETELLING:
                    found.setdefault(prefix, {})[name] = tensor
        else:
            found = {_ALIASES.get(stem, stem): tensors}
        states.update(found)
        if own is not None:
            sections.update({component: getattr(own, component) for component in found})
    _add_part_reader(directory / f"{_PART_READER}.safetensors", states, sections)
    if not states:
        names = ", ".join(f"{name}.safetensors" for name in COMPONENTS)
        raise WeightsError(f"{directory} holds no weights; expected some of {names}.")
    if config is None:
        raise WeightsError(f"No file in {directory} carries a configuration; pass one, for instance config.TINY.")
    whole = given or dataclasses.replace(config, **sections)
    return Checkpoint(_upgrade(states, whole), states, stage)


def _upgrade(states: dict[str, StateDict], config: MCDMConfig) -> MCDMConfig:
    """Bring weights of earlier versions to today's names, in place; returns the configuration that they have then.

    Version 0.1's prior knew of its past only the last frame, and closed lids no direction (zeros:
    :meth:`~mcdm_core.motion.blinks.LidAxis.of` has its own then). The first sight of the gallery weighed the decoder's
    features: it is left out, and the decoder shows what it paints, as without a gallery.
    """
    prior, codec = states.get("present_clip_prior", {}), config.motion_codec
    last = prior.pop("persistence", None)
    if last is not None:
        prior["past.last"] = last
        prior.update({f"past.{name}": torch.zeros_like(last) for name in ("trend", "reference")})
        prior["closed_lids"] = torch.zeros(codec.expression_tokens, codec.motion_dim)
    decoder = states.get("part_decoder", {})
    if "pictures.query.weight" in decoder and "pictures.down.weight" not in decoder:
        states["part_decoder"] = {name: value for name, value in decoder.items() if not name.startswith("pictures.")}
        logger.info("an earlier sight of the gallery is left out; `train sight` teaches one of today's")
        config = dataclasses.replace(config, part_decoder=dataclasses.replace(config.part_decoder, gallery=0))
    return config


def _add_part_reader(path: Path, states: dict[str, StateDict], sections: dict[str, Any]) -> None:
    """Put the second reading of ``path``, if it is there, into the face network's weights and configuration."""
    if not path.is_file() or "face_network" not in states:
        return
    tensors, metadata = _read(path)
    channels = _config(path, metadata).face_network.part_channels
    face = {key: value for key, value in states["face_network"].items() if not key.startswith("parts.")}
    states["face_network"] = {**face, **{f"parts.{key}": value for key, value in tensors.items()}}
    section = sections.get("face_network", FaceNetworkConfig())
    sections["face_network"] = dataclasses.replace(section, part_channels=channels)


def _completed(found: Checkpoint, rest: Checkpoint) -> Checkpoint:
    """``found``, and what it lacks from ``rest``, each network with its section of the configuration."""
    lacking = {name: state for name, state in rest.states.items() if name not in found.states}
    sections: dict[str, Any] = {name: getattr(rest.config, name) for name in lacking}
    config = dataclasses.replace(found.config, **sections)
    return Checkpoint(config, {**found.states, **lacking}, rest.stage if "unet" in lacking else found.stage)


def bundle(
    ckpt_dir: str | Path, output: str | Path, config: MCDMConfig | None = None, rest: str | Path | None = None
) -> Path:
    """Join a training directory's components into one half-precision file.

    Args:
        ckpt_dir: see :func:`load_directory`.
        output: the file to write.
        config: needed only if none of the parts carries one.
        rest: a model's file, from which components come that the directory lacks.

    Returns:
        ``output`` as a path.

    Raises:
        WeightsError: if components or the configuration are missing.
    """
    found = load_directory(ckpt_dir, config)
    if rest is not None:
        found = _completed(found, load_checkpoint(rest))
    missing = [name for name in components_of(found.config) if name not in found.states]
    if missing:
        raise WeightsError(f"{ckpt_dir} lacks {', '.join(missing)}; train those stages first.")
    save_checkpoint(output, found.states, found.config, dtype=torch.float16, stage=found.stage)
    logger.info("bundled %d tensors into %s", sum(len(state) for state in found.states.values()), output)
    return Path(output)


def fingerprint(states: Mapping[str, Mapping[str, Tensor]], config: MCDMConfig) -> str:
    """Short name of a model: a hash of its configuration, shapes and a sample of every tensor's values.

    Values are compared in half precision, so a bundle and the parts it was made from agree. Of the configuration only
    what differs from the defaults counts, so that a field added later renames no model.
    """
    digest = hashlib.sha256(json.dumps(differences(config), sort_keys=True).encode())
    for component in sorted(states):
        for key in sorted(states[component]):
            tensor = states[component][key].detach()
            flat = tensor.reshape(-1)[:: max(1, tensor.numel() // 64)][:64].cpu().float().half()
            digest.update(f"{component}.{key}{tuple(tensor.shape)}".encode())
            digest.update(flat.numpy().tobytes())
    return digest.hexdigest()[:16]


def _config(path: Path, metadata: Mapping[str, str]) -> MCDMConfig:
    try:
        return from_json(metadata[CONFIG_KEY])
    except WeightsError as error:
        raise WeightsError(f"The configuration in {path.name} cannot be used: {error}.") from error


def _read(path: Path) -> tuple[StateDict, dict[str, str]]:
    return read_tensors(path, error=WeightsError, what="weight file")


def _stage(path: Path, metadata: Mapping[str, str]) -> int:
    text = metadata.get(STAGE_KEY, str(LAST_STAGE))
    if text not in {str(stage) for stage in range(LAST_STAGE + 1)}:
        raise WeightsError(f"{path.name} says that its UNet is of stage {text[:40]!r}; expected 0 to {LAST_STAGE}.")
    return int(text)
