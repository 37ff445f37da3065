"""Counts what crosses between devices, without a GPU: PyTorch's ``meta`` device stands for one.

What a network holds or makes elsewhere meets its tensors there.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Traffic(TorchDispatchMode):
    """Counts operations between devices by the line of the package that asks for them.

    A number on the CPU that is multiplied with a device's tensor is no traffic: kernels take it as an argument. A copy
    of it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        if "copy" not in str(func):
            tensors = [tensor for tensor in tensors if tensor.dim() or tensor.device.type != "cpu"]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.found[f"{func} in {asked_by()}"] += 1
        return made


class Fetched(TorchFunctionMode):
    """Counts what the host asks back of the ``meta`` device, by the line that asks: it would wait for a GPU there.

    What is asked for is made up, so that the host goes on. Some functions ask by themselves: whether a system could be
    solved, or how many values are not zero.
    """

    _VALUES = ("item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__index__")
    _ASKING = ("linalg_solve", "linalg_inv", "inverse", "linalg_cholesky", "nonzero", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, asked = getattr(func, "__name__", ""), args[0] if args else None
        if isinstance(asked, Tensor) and asked.device.type == "meta":
            values = name in self._VALUES
            if values or name == "cpu" or (name == "to" and self._to_cpu((*args[1:], *kwargs.values()))):
                self.found[asked_by()] += 1
                made_up = torch.rand(asked.shape).to(asked.dtype)
                return getattr(made_up, name)() if values else made_up
            if name in self._ASKING:
                self.found[f"{name} in {asked_by()}"] += 1
        return func(*args, **kwargs)

    @staticmethod
    def _to_cpu(given: tuple[Any, ...]) -> bool:
        devices = [value.device if isinstance(value, Tensor) else value for value in given]
        return any(device in ("cpu", torch.device("cpu")) for device in devices)


def asked_by() -> str:
    """The function and line of the package that asked."""
    stack = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    frame = [frame for frame in stack if frame.filename != __file__][-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


def outlined(*shape: int) -> Tensor:
    """A tensor without values on the ``meta`` device."""
    return torch.empty(*shape, device="meta")
