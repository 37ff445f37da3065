"""Stable Diffusion 1.5 and AnimateDiff v2 weights into the stock layout of :class:`DenoisingUNet`.

The stock layout keeps Stable Diffusion's names, so its keys go in as they are. Only MCDM's own layers are missing from
such a file. They start with projections of zero. With the same text tokens as ``text`` and no motion modules the output
is the stock UNet's. AnimateDiff's motion modules go into layer 4 of the block behind the same residual block.
AnimateDiff also has motion modules at the lowest level, where Stable Diffusion (and so MCDM) has no transformer block.
These have no place here and are returned by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import WeightsError
from ..models.unet import DenoisingUNet
from .names import MOTION_KEY, motion_name

OWN_LAYERS = (".archived_norm.", ".archived_attn.", ".present_norm.", ".present_attn.", ".temporal.")
"""Parts of the keys that Stable Diffusion has not."""


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
    check_shapes(state, own, "Stable Diffusion UNet")
    missing = [key for key in own if key not in state]
    foreign = [key for key in missing if not any(part in key for part in OWN_LAYERS)]
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
    renamed = ((motion_name(key), value) for key, value in state.items())
    return {name: value for name, value in renamed if name is not None}


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
        found = MOTION_KEY.match(key)
        assert found is not None, key
        level, index, rest = found.groups()
        target = f"{level}.attentions.{index}.transformer_blocks.0.temporal.{rest}"
        if any(k.startswith(f"{level}.attentions.{index}.") for k in own):
            converted[target] = value
        else:
            unused.append(key)
    check_shapes(converted, own, "AnimateDiff motion module")
    missing = [key for key in own if ".temporal." in key and key not in converted]
    if missing:
        raise WeightsError(
            f"No motion weights for {missing[0]!r} ({len(missing)} keys missing); give AnimateDiff v2 weights for "
            "Stable Diffusion 1.5 with the mid block's module (use_motion_mid_block)."
        )
    unet.load_state_dict(converted, strict=False)
    return unused


def check_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    """Refuse keys that a module has not, and tensors of another shape than its own.

    Raises:
        WeightsError: naming the first of them.
    """
    for key, value in state.items():
        if key not in own:
            raise WeightsError(f"The {what} has an unknown key {key!r}; it is not of this configuration's shape.")
        if value.shape != own[key].shape:
            raise WeightsError(
                f"{key!r} of the {what} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}: the widths "
                "or the positional length differ from this configuration."
            )
