"""ComfyUI's interrupt: asked for at every step, before every layer of a model, and before torch calls on pictures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

T = TypeVar("T")


def check_interrupt() -> None:
    """Raise ComfyUI's interruption if the user pressed Cancel.

    Called at each step, since newer versions throttle the progress bar's own check. Outside ComfyUI nobody interrupts.
    """
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


class _Thread(threading.local):
    """Whether this thread is inside of a layer, whose weights ComfyUI may be streaming in."""

    in_layer = False


_THREAD = _Thread()


def make_interruptible(model: nn.Module) -> list[RemovableHandle]:
    """Let every layer of a model ask for an interrupt before it computes.

    A step of a large model can take many seconds on a slow device; one layer does not. Asking costs a microsecond.

    Returns:
        Handles whose ``remove`` takes this back.
    """
    layers = [layer for layer in model.modules() if not any(layer.children())]
    handles = [layer.register_forward_pre_hook(_enter) for layer in layers]
    return handles + [layer.register_forward_hook(_leave) for layer in layers]


@contextmanager
def interruptible(model: nn.Module | None) -> Iterator[None]:
    """:func:`make_interruptible` for somebody else's model, taken back at the end; None is no model."""
    handles = make_interruptible(model) if model is not None else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(layer: nn.Module, inputs: object) -> None:
    _THREAD.in_layer = False
    check_interrupt()
    _THREAD.in_layer = True


def _leave(layer: nn.Module, inputs: object, output: object) -> None:
    _THREAD.in_layer = False


class StoppableTorch(TorchFunctionMode):
    """Within ``with StoppableTorch():`` every call of a torch function asks for an interrupt first.

    For work on large pictures outside of models, where a frame takes seconds and one call a part of one. It costs
    microseconds a call. Inside a layer nothing is asked: ComfyUI must be able to give its weights back. Not to be held
    while ComfyUI loads models, nor across a ``yield`` (see :func:`stoppable`).
    """

    def __enter__(self) -> StoppableTorch:
        _THREAD.in_layer = False
        return super().__enter__()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _THREAD.in_layer:
            check_interrupt()
        return function(*args, **(kwargs or {}))


def stoppable(items: Iterator[T]) -> Iterator[T]:
    """The same items, each of which is made under :class:`StoppableTorch`."""
    end = object()
    while True:
        with StoppableTorch():
            item: Any = next(items, end)
        if item is end:
            return
        yield item
