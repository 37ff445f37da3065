"""ComfyUI's interrupt: asked for at every step, and before every layer of a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def check_interrupt() -> None:
    """Raise ComfyUI's interruption if the user pressed Cancel.

    Called at each step, since newer versions throttle the progress bar's own check. Outside ComfyUI nobody interrupts.
    """
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


def make_interruptible(model: nn.Module) -> list[Any]:
    """Let every layer of a model ask for an interrupt before it computes.

    A step of a large model can take many seconds on a slow device; one layer does not. Asking costs a microsecond.

    Returns:
        Handles whose ``remove`` takes this back.
    """
    return [layer.register_forward_pre_hook(_ask) for layer in model.modules() if not any(layer.children())]


@contextmanager
def interruptible(model: nn.Module | None) -> Iterator[None]:
    """:func:`make_interruptible` for somebody else's model, taken back at the end; None is no model."""
    handles = make_interruptible(model) if model is not None else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ask(layer: nn.Module, inputs: Any) -> None:
    check_interrupt()
