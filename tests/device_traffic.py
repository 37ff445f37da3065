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
            frame = [frame for frame in traceback.extract_stack()[:-1] if "torch" not in frame.filename][-1]
            self.found[f"{func} in {Path(frame.filename).name}:{frame.lineno}"] += 1
        return made


def outlined(*shape: int) -> Tensor:
    """A tensor without values on the ``meta`` device."""
    return torch.empty(*shape, device="meta")
