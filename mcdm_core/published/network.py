"""Networks that others published and the user has exported as ONNX: nothing is unpickled, nothing downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import PackageError, WeightsError

Features = NDArray[np.float64]

FREE_LENGTH = 16
"""Frames of a clip for a network that takes clips of any length."""
_BATCH = 8
_TYPES: dict[str, type[np.generic]] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class OnnxNetwork:
    """A network of one input, by onnxruntime on the CPU.

    Attributes:
        shape: of the input without the batch, None where any size will do; rank: of the input, the batch included.

    Raises:
        PackageError: if onnxruntime is missing.
        WeightsError: if the file is no ONNX network of one input of numbers.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise PackageError(
                "Published networks need onnxruntime: pip install 'mcdm-talking-face[metrics]'."
            ) from error
        self.name = Path(path).name
        if not Path(path).is_file():
            raise WeightsError(f"{path} is missing; give a network as an ONNX file.")
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises errors of its own, of several kinds
            raise WeightsError(f"{self.name} cannot be read as an ONNX network ({error}).") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            told = ", ".join(f"{given.name}: {given.type}" for given in inputs)
            raise WeightsError(f"{self.name} asks for {told}; expected one input of bytes or floats.")
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        sizes = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        self._batch, self.shape, self.rank = sizes[0], tuple(sizes[1:]), len(sizes)

    def __call__(self, values: Tensor) -> Features:
        """Features ``[n, d]`` of inputs ``[n, ...]``, in batches of the size that the network was exported with."""
        made = [self._run(part) for part in values.split(self._batch or _BATCH)]
        return np.concatenate(made)

    def _run(self, part: Tensor) -> Features:
        count, missing = len(part), (self._batch or len(part)) - len(part)
        if missing:
            part = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
        given = part.round().numpy() if self._type is np.uint8 else part.numpy()
        (made, *_) = self._session.run(None, {self._input: given.astype(self._type)})
        return np.asarray(made, np.float64).reshape(len(part), -1)[:count]


def network_inputs(network: OnnxNetwork, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """What a network of pictures ``[n, 3, h, w]`` or of clips ``[n, 3, t, h, w]`` is shown of a video.

    Args:
        frames: ``[3, h, w]`` in [0, 1]. Clips follow one another; frames that do not fill the last one are left out.

    Returns:
        Batches in RGB from 0 to 255, at the size the network was exported for.

    Raises:
        WeightsError: if the network takes neither pictures nor clips.
    """
    shape = network.shape
    if network.rank not in (4, 5) or shape[0] not in (3, None):
        raise WeightsError(
            f"{network.name} takes inputs of the sizes {shape}; expected pictures (3, height, width) or clips "
            "(3, frames, height, width)."
        )
    height, width = shape[-2:]
    length = 1 if network.rank == 4 else shape[1] or FREE_LENGTH
    steady = iter(frames)
    while len(part := list(islice(steady, length))) == length:
        pictures = torch.stack(part)
        if height is not None and width is not None and pictures.shape[-2:] != (height, width):
            size = (height, width)
            pictures = F.interpolate(pictures, size=size, mode="bicubic", antialias=True, align_corners=False)
        pictures = pictures.clamp(0, 1) * 255
        yield pictures if network.rank == 4 else pictures.transpose(0, 1)[None]
