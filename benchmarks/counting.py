"""Operations, bytes and memory of a call, counted and not estimated, on any device; ``meta`` needs no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Counts:
    """Of one call: floating-point operations; bytes that its operations read and write, each by itself; and the most
    bytes that it held at a time beside what was there before."""

    operations: int
    moved: int
    held: int


def counted(call: Callable[[], object]) -> Counts:
    """Run a call once and count.

    >>> counted(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    Counts(operations=48, moved=176, held=104)
    """
    with torch.no_grad(), FlopCounterMode(display=False) as operations, _Memory() as memory:
        call()
    return Counts(operations.get_total_flops(), memory.moved, memory.most)


class _Memory(TorchDispatchMode):
    """Follows what operations read and write, and what of it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.most = self._held = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs))
        before = {tensor.untyped_storage()._cdata for tensor in given}
        result = func(*args, **(kwargs or {}))
        made = _tensors(result)
        if func.is_view:
            return result
        self.moved += sum(_size(tensor) for tensor in (*given, *made))
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in before and storage not in self._seen:
                self._seen.add(storage)
                size = storage.nbytes()
                self._held += size
                weakref.finalize(storage, self._release, size)
        self.most = max(self.most, self._held)
        return result

    def _release(self, size: int) -> None:
        self._held -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    """Bytes that are there: of what is repeated by its strides, once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
