"""The number format in which pictures are made: bfloat16 on processors that multiply it much faster than float32.

Only matrix products and convolutions of the autoencoder and the UNet are done in it (``MCDMModel.products``). The
motion, the places of the parts and everything outside of the networks stay in float32. With the shipped weights the
pictures of the two formats are 66 dB apart: less than the rounding to bytes.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch

LEAST_GAIN = 1.5
"""How many times faster bfloat16 has to be: less is eaten up by conversions."""
_REPEATS = 5
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def picture_format(name: str, device: torch.device | str) -> torch.dtype:
    """The format of a choice: ``float32``, ``bfloat16``, or ``auto`` for what is measured to be fast on the device.

    Only CPUs are measured; ``auto`` is float32 elsewhere.
    """
    if name != "auto":
        return FORMATS[name]
    return fast_format() if torch.device(device).type == "cpu" else torch.float32


def format_to_go_on(chosen: torch.dtype, begun: Callable[[torch.dtype], bool]) -> torch.dtype:
    """The format in which a run was begun, else the chosen one.

    What is measured may come out otherwise the next time, and a video that goes on keeps its format.

    >>> format_to_go_on(torch.float32, lambda format: format == torch.bfloat16)
    torch.bfloat16
    """
    return next((number for number in (chosen, *FORMATS.values()) if begun(number)), chosen)


@functools.cache
def fast_format() -> torch.dtype:
    """What this processor is good at, measured once: some hundredths of a second.

    Time of the thread is counted, not of the clock, and both take turns, so that other work hardly changes the result.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    gained = gain(_convolution(torch.float32), _convolution(torch.bfloat16))
    return torch.bfloat16 if gained >= LEAST_GAIN else torch.float32


def gain(
    slow: Callable[[], object], fast: Callable[[], object], clock: Callable[[], float] = time.thread_time
) -> float:
    """How many times faster the second call is than the first: the ratio of the medians over a few turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_REPEATS):
        for call, times in zip((slow, fast), taken, strict=True):
            began = clock()
            call()
            times.append(clock() - began)
    return statistics.median(taken[0]) / max(statistics.median(taken[1]), 1e-9)


def _convolution(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """One as the decoder has many, ready to run."""
    layer = torch.nn.functional.conv2d
    picture = torch.ones(2, 64, 48, 48, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(64, 64, 3, 3, dtype=dtype)
    return lambda: layer(picture, weight, padding=1)
