"""Configurations read from files: also those of older versions, and never one that no model can have."""

from __future__ import annotations

import dataclasses
from typing import Any

from .config import MCDMConfig
from .errors import WeightsError
from .files import read_json


def from_json(text: str) -> MCDMConfig:
    """Rebuild a configuration from :func:`~.config.to_json`'s text, also one that an older version wrote.

    Raises:
        WeightsError: if the text is no configuration, or one that this version does not know or no model can have.
    """
    values = read_json(text, error=WeightsError, what="The configuration")
    for section in dataclasses.fields(MCDMConfig):
        _check_section(section, values.get(section.name, {}))
    config: MCDMConfig = _build(MCDMConfig, _upgraded(values))
    if max(config.unet.block_channels, default=0) > _WIDEST_HEAD * config.unet.num_heads:
        raise WeightsError(f"the UNet's {config.unet.num_heads} attention heads are wider than {_WIDEST_HEAD} channels")
    return config


_REMOVED = {
    "unet": ("warp", "motion_map_channels"),
    "face_network": ("heatmap_size",),
    "diffusion": ("beta_schedule",),
}
"""Fields of earlier files that nothing reads any more."""


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The values of an older version's file as this version names them.

    Version 0.1 chose the layouts by the preset's name, and had a second kind of warp. Its compact UNet had no
    projections around the transformer blocks. Its ``tiny`` sampled motion without noise: its prior gets the scale by
    stream that its heads, lips and faces were measured to bear.

    Raises:
        WeightsError: if the file needs what this version no longer has.
    """
    if values.get("unet", {}).get("warped_reference") and values["unet"].get("warp", "framed") != "framed":
        raise WeightsError("these weights need the warp 'pinned' of version 0.1, which is gone: use that version.")
    for part, gone in _REMOVED.items():
        if part in values:
            values[part] = {name: value for name, value in values[part].items() if name not in gone}
    layouts = {"unet": ("compact", "tiny"), "vae": ("stable_diffusion", "base")}
    other = {"compact": "stable_diffusion", "stable_diffusion": "compact"}
    for part, (layout, preset) in layouts.items():
        if part in values and "layout" not in values[part]:
            chosen = layout if values.get("preset", "base") == preset else other[layout]
            values[part] = {**values[part], "layout": chosen}
    unet = values.get("unet", {})
    if "block_projections" not in unet and unet.get("layout") == "compact":
        values["unet"] = {**unet, "block_projections": False}
    prior = values.get("present_clip_prior")
    if isinstance(prior, dict) and "noise_scale" not in prior and values.get("preset") == "tiny":
        values["present_clip_prior"] = {**prior, "noise_scale": [1.0, 0.0, 0.5]}
    return values


_BOUNDS = {
    "sample_rate": 768_000,
    "num_train_timesteps": 100_000,
    "image_size": 4096,
    "latent_size": 1024,
    "input_size": 4096,
    "num_mels": 1024,
    "num_layers": 256,
    "layers_per_block": 64,
    "blocks_per_level": 64,
    "clip_frames": 1024,
    "archive_frames": 1024,
    "max_frames": 8192,
    "block_channels": 4096,
    "favor_features": 8192,
    "num_queries": 4096,
    "window_frames": 4096,
}
_LARGEST = 16_384
_WIDEST_HEAD = 512
"""Bounds of whole numbers: wide enough for any model, and a damaged file cannot ask for the impossible."""


def _checked(name: str, value: Any, default: Any) -> Any:
    """A value of a file, if it has the default's type and lies within bounds.

    Raises:
        WeightsError: if not.
    """
    refused = WeightsError(f"{name} is {str(value)[:40]}, which no model has")
    if isinstance(default, tuple):
        kinds = tuple({type(part) for part in default}) or (float,)
        if not isinstance(value, list) or len(value) > 64:
            raise refused
        return tuple(_checked(name, part, kinds[0]()) for part in value)
    if isinstance(default, (bool, str)):
        if type(value) is not type(default) or len(str(value)) > 64:
            raise refused
    elif isinstance(default, int):
        if type(value) is not int or not 0 <= value <= _BOUNDS.get(name, _LARGEST):
            raise refused
    elif type(value) not in (int, float) or not abs(value) <= 1e9:
        raise refused
    return value


def _build(cls: type, values: dict[str, Any]) -> Any:
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise WeightsError(
            f"{cls.__name__} has no field {unknown[0]!r}: these weights were made by a newer version of MCDM; "
            "update the pack to use them."
        )
    built: dict[str, Any] = {}
    for name, value in values.items():
        factory = known[name].default_factory
        if isinstance(factory, type):  # a section
            built[name] = _build(factory, value)
        else:
            built[name] = _checked(name, value, known[name].default)
    return cls(**built)


def _check_section(field: dataclasses.Field[Any], value: Any) -> None:
    if isinstance(field.default_factory, type) and not isinstance(value, dict):
        raise WeightsError(f"{field.name} is {str(value)[:40]!r}, expected names with values")
