"""What adapters of looks and of motion share: frozen networks of a model file, the loop's settings, their result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from ...adapter import AdapterInfo, adapter_metadata
from ...errors import WeightsError
from ..loop import LoopSettings
from ..random_state import Draws

SAVE_EVERY = 25
"""Steps: on a slow machine hundreds take hours, and the files are small."""


class LoraResult(NamedTuple):
    """Scores on held-out clips without the adapter and with it."""

    before: dict[str, float]
    after: dict[str, float]
    steps: int


def load_frozen(networks: Mapping[str, nn.Module], states: Mapping[str, Mapping[str, Tensor]], weights: Path) -> None:
    """Give networks their weights, by name, and freeze them.

    Args:
        states: of the components of the model file ``weights``.

    Raises:
        WeightsError: if the file lacks one of them.
    """
    for name, module in networks.items():
        if name not in states:
            raise WeightsError(f"{weights} lacks {name}; give a whole model.")
        module.load_state_dict(states[name])
        module.eval().requires_grad_(False)


def adapter_settings(
    output: Path,
    info: AdapterInfo,
    learning_rate: float,
    *,
    minutes: float | None,
    steps: int | None,
    validate_every: int,
    resume: bool,
    draws: Draws,
) -> LoopSettings:
    """Settings of the loop that trains an adapter, whose file says what ``info`` does."""
    return LoopSettings(
        output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        warmup_steps=20,
        weight_decay=0.0,
        ema_decay=0.98,
        validate_every=validate_every,
        save_every=SAVE_EVERY,
        log_every=25,
        resume=resume,
        draws=draws,
        metadata=adapter_metadata(info),
    )
