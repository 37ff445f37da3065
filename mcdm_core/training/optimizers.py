"""AdamW (section 4.1 of the paper), and the same with moments of 8 bits, which take a quarter of the memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PackageError, WeightsError

_EIGHT_BIT_SLOT = "state1"
"""What bitsandbytes calls the first moment; torch says ``exp_avg``."""


def build_optimizer(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    *,
    eight_bit: bool = False,
) -> torch.optim.Optimizer:
    """AdamW over ``parameters``.

    Args:
        eight_bit: keep the moments in 8 bits, block by block (Dettmers et al., 2022); those of small tensors stay
            float32.

    Raises:
        PackageError: if ``eight_bit`` is asked for and bitsandbytes is missing, or does not work on the device.
    """
    parameters = list(parameters)
    device = parameters[0].device
    if not eight_bit:
        return torch.optim.AdamW(
            parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=device.type == "cuda" or None
        )
    optimizer = _eight_bit_class()(parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    _try_out(device)
    return optimizer


def _eight_bit_class() -> Any:
    try:
        return importlib.import_module("bitsandbytes").optim.AdamW8bit
    except ImportError as error:
        raise PackageError("The 8-bit optimiser needs bitsandbytes: pip install bitsandbytes.") from error


def _try_out(device: torch.device) -> None:
    """Take a step on a tensor that counts as large: not every build has the operations of every device."""
    value = nn.Parameter(torch.zeros(1 << 13, device=device))
    value.grad = torch.ones_like(value)
    try:
        _eight_bit_class()([value], lr=1.0).step()
        moved = float(value.detach().mean())
    except Exception as error:  # whatever the build raises where an operation is missing
        raise PackageError(
            f"This bitsandbytes has no 8-bit optimiser for {device.type} ({str(error).splitlines()[0]}). Leave it out, "
            "or train on a CUDA GPU."
        ) from error
    if not -1.1 < moved < -0.9:
        raise PackageError(
            f"The 8-bit optimiser of this bitsandbytes computes wrongly on {device.type} (a step of {moved:g} in place "
            "of -1). Leave it out."
        )


def restored_moments(parameter: nn.Parameter, slots: Mapping[str, Tensor], eight_bit: bool) -> dict[str, Any]:
    """What an optimiser keeps of a parameter, out of the tensors of a resume file.

    Raises:
        WeightsError: if the file is of the other kind of optimiser.
    """
    if (_EIGHT_BIT_SLOT in slots) != eight_bit:
        begun, now = ("the 8-bit", "the usual") if not eight_bit else ("the usual", "the 8-bit")
        raise WeightsError(f"This training was begun with {begun} optimiser and cannot go on with {now} one.")
    restored: dict[str, Any] = {}
    for slot, value in slots.items():
        if slot == "step":
            # torch's fused optimiser counts on the GPU, bitsandbytes in plain numbers.
            restored[slot] = int(value) if eight_bit else value.to(parameter.device, copy=True)
        elif value.shape == parameter.shape and not eight_bit:
            restored[slot] = torch.empty_like(parameter).copy_(value)
        else:
            restored[slot] = value.to(parameter.device, copy=True)
    return restored
