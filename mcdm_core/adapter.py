"""Adapters: small files that change a model's weights a little, for one person as a rule (LoRA, Hu et al., 2021).

A layer's weight W becomes W + strength * alpha / rank * B A, with ``A [rank, in]`` and ``B [out, rank]``. The sum is
made when the model is loaded: afterwards nothing is slower, and nothing of the adapter is left to keep track of.

Keys are ``<component>.<layer>.lora_A.weight`` and ``.lora_B.weight``; what an adapter was trained for stands in the
metadata.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import fingerprint
from .config import MCDMConfig
from .errors import WeightsError
from .files import read_json, read_tensors

logger = logging.getLogger(__name__)

ADAPTER_KEY = "mcdm_adapter"
LOOKS, MOTION = ("archived_clip_prior", "unet"), ("present_clip_prior",)
"""Components that adapters change: one of how a person looks, one of how they move."""
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter is.

    Attributes:
        preset, model: preset of the model it was trained for, and name of its weights (:func:`weights_name`).
        alpha: scale of the change, over the rank; person: whom it is of, as its maker named it.
    """

    preset: str
    model: str
    alpha: float
    person: str = ""


def weights_name(
    states: Mapping[str, Mapping[str, Tensor]], config: MCDMConfig, components: Iterable[str] = LOOKS
) -> str:
    """Fingerprint of the components that an adapter changes: it is of use to these weights alone."""
    return fingerprint({name: states[name] for name in components if name in states}, config)


def adapter_metadata(info: AdapterInfo) -> dict[str, str]:
    """The metadata that a file of these needs."""
    return {ADAPTER_KEY: json.dumps(asdict(info), sort_keys=True)}


def is_adapter(path: str | Path) -> bool:
    """Whether a file is an adapter, told by its header alone."""
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return ADAPTER_KEY in (file.metadata() or {})
    except Exception:  # the reader raises its own untyped errors for damaged files
        return False


def load_adapter(path: str | Path) -> tuple[dict[str, tuple[Tensor, Tensor]], AdapterInfo]:
    """``A`` and ``B`` by the key of the weight they change, and what the adapter is.

    Raises:
        WeightsError: if the file is missing, damaged, or no adapter.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, error=WeightsError, what="adapter")
    if ADAPTER_KEY not in metadata:
        raise WeightsError(f"{path.name} is no adapter of this project; give a file that `train lora` wrote.")
    try:
        info = AdapterInfo(**read_json(metadata[ADAPTER_KEY], error=WeightsError, what=f"What {path.name} is"))
        alpha = float(info.alpha)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path.name} does not say what it is ({error}). Get the file again.") from error
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for key in tensors:
        other = key.removesuffix(_A) + _B if key.endswith(_A) else key.removesuffix(_B) + _A
        if not key.endswith((_A, _B)) or other not in tensors:
            raise WeightsError(f"{path.name} has {key!r} without its counterpart; it is damaged. Get the file again.")
        if key.endswith(_A):
            pairs[key.removesuffix(_A) + ".weight"] = (tensors[key].float(), tensors[other].float())
    if not pairs:
        raise WeightsError(f"{path.name} changes nothing; it is empty. Get the file again.")
    return pairs, AdapterInfo(str(info.preset), str(info.model), alpha, str(info.person))


def merge_adapters(
    states: Mapping[str, Mapping[str, Tensor]], config: MCDMConfig, adapters: Iterable[tuple[str | Path, float]]
) -> dict[str, dict[str, Tensor]]:
    """Weights with the changes of adapters in them; those given stay as they are.

    Args:
        states: state dict by component, of the model ``config``.
        adapters: files, each with its strength: 0 changes nothing, 1 as trained; several add up. One that was trained
            for other weights is warned of.

    Raises:
        WeightsError: if an adapter belongs to another model: a weight is missing or has another shape. Or if it is
            damaged: what it adds is not finite.
    """
    merged = {component: dict(state) for component, state in states.items()}
    for path, strength in adapters:
        pairs, info = load_adapter(path)
        for key, (down, up) in pairs.items():
            component, _, own = key.partition(".")
            weight = merged.get(component, {}).get(own)
            if weight is None:
                raise WeightsError(f"{_other_model(path, info)}: it changes {key}, which this one lacks.")
            if down.dim() != 2 or up.shape != (weight.shape[0], down.shape[0]) or down.shape[1:] != weight.shape[1:]:
                raise WeightsError(
                    f"{_other_model(path, info)}: it changes {key} by {list(up.shape)} times {list(down.shape)}, but "
                    f"here that is {list(weight.shape)}."
                )
            change = (strength * info.alpha / len(down)) * (up @ down)
            if not torch.isfinite(change).all():
                raise WeightsError(f"{Path(path).name} changes {key} beyond all numbers; it is damaged. Get it again.")
            merged[component][own] = (weight.float() + change.to(weight.device)).to(weight.dtype)
        moves = all(key.startswith(tuple(f"{component}." for component in MOTION)) for key in pairs)
        name = weights_name(states, config, MOTION if moves else LOOKS)
        if info.model != name:
            logger.warning(
                "%s was trained for other weights (%s, these are %s): it may do harm. Train it again for these.",
                Path(path).name,
                info.model,
                name,
            )
    return merged


def _other_model(path: str | Path, info: AdapterInfo) -> str:
    return f"{Path(path).name} was trained for another model ({info.preset})"
