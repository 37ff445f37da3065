"""Stable Diffusion 1.5 and AnimateDiff v2 weights into the stock layout of :class:`DenoisingUNet`.

The stock layout keeps Stable Diffusion's names, so its keys go in as they are; only MCDM's own layers are missing from
such a file, and they start with projections of zero: with the same text tokens as ``text`` and no motion modules the
output is the stock UNet's. AnimateDiff's motion modules go into layer 4 of the block behind the same residual block.
AnimateDiff also has motion modules at the lowest level, where Stable Diffusion (and so MCDM) has no transformer
block: these have no place here and are returned by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import WeightsError
from .unet import DenoisingUNet

_OWN_LAYERS = (".archived_norm.", ".archived_attn.", ".present_norm.", ".present_attn.", ".temporal.")
_MOTION_KEY = re.compile(r"^((?:down_blocks|up_blocks)\.\d+|mid_block)\.motion_modules\.(\d+)\.(.+)$")
_ORIGINAL_NAMES = (
    ("temporal_transformer.", ""),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
    (".attention_blocks.0.pos_encoder.", ".pos_embed."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
)


def load_stable_diffusion(unet: DenoisingUNet, state: Mapping[str, Tensor]) -> list[str]:
    """Load a stock UNet's state dict (diffusers' ``UNet2DConditionModel`` keys), strictly.

    Args:
        unet: of the stock layout (``base`` or a narrower configuration of it); changed in place.
        state: every key must have its place here, and only MCDM's own layers may be missing.

    Returns:
        Keys of MCDM's own layers, which kept their initial values.

    Raises:
        WeightsError: naming the first key that is missing, unknown or of another shape.
    """
    own = unet.state_dict()
    _check_shapes(state, own, "Stable Diffusion UNet")
    missing = [key for key in own if key not in state]
    foreign = [key for key in missing if not any(part in key for part in _OWN_LAYERS)]
    if foreign:
        raise WeightsError(
            f"The Stable Diffusion UNet lacks {foreign[0]!r} ({len(foreign)} keys missing); give a complete UNet of "
            "Stable Diffusion 1.5 in diffusers' key names."
        )
    unet.load_state_dict(dict(state), strict=False)
    return missing


def motion_module_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Motion weights under diffusers' names.

    Takes diffusers' ``UNetMotionModel`` or ``MotionAdapter`` keys and those of the original ``mm_sd_v15_v2`` file;
    keys that are not of motion modules are left out. The original stores the same positions once for each of the two
    attentions; the second copy is dropped.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        for old, new in _ORIGINAL_NAMES:
            name = name.replace(old, new)
        if _MOTION_KEY.match(name) and ".pos_encoder." not in name:
            renamed[name] = value
    return renamed


def load_motion_modules(unet: DenoisingUNet, state: Mapping[str, Tensor]) -> list[str]:
    """Load AnimateDiff v2's motion modules into layer 4 of every block.

    Args:
        unet: of the stock layout; changed in place.
        state: see :func:`motion_module_keys`; positions along time of 32 frames.

    Returns:
        Motion keys of levels without transformer blocks, which have no place in MCDM.

    Raises:
        WeightsError: if a block finds no module, or a module does not fit.
    """
    own = unet.state_dict()
    converted: dict[str, Tensor] = {}
    unused: list[str] = []
    for key, value in motion_module_keys(state).items():
        level, index, rest = _MOTION_KEY.match(key).groups()
        target = f"{level}.attentions.{index}.transformer_blocks.0.temporal.{rest}"
        if any(k.startswith(f"{level}.attentions.{index}.") for k in own):
            converted[target] = value
        else:
            unused.append(key)
    _check_shapes(converted, own, "AnimateDiff motion module")
    missing = [key for key in own if ".temporal." in key and key not in converted]
    if missing:
        raise WeightsError(
            f"No motion weights for {missing[0]!r} ({len(missing)} keys missing); give AnimateDiff v2 weights for "
            "Stable Diffusion 1.5 with the mid block's module (use_motion_mid_block)."
        )
    unet.load_state_dict(converted, strict=False)
    return unused


def _check_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    for key, value in state.items():
        if key not in own:
            raise WeightsError(f"The {what} has an unknown key {key!r}; it is not of Stable Diffusion 1.5's shape.")
        if value.shape != own[key].shape:
            raise WeightsError(
                f"{key!r} of the {what} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}: the widths "
                "or the positional length differ from this configuration."
            )
