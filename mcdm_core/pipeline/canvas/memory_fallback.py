"""What is done where the device's memory does not suffice: the same in smaller parts."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import OutOfMemoryError, is_out_of_memory

logger = logging.getLogger(__name__)


def in_smaller_parts(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """``function`` of a batch ``[b, ...]``, of halves of it where memory runs out, at last one by one.

    Raises:
        OutOfMemoryError: if memory does not suffice for one either.

    >>> in_smaller_parts(lambda part: part * 2, torch.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """
    size = max(1, len(batch))
    while True:
        try:
            parts = [function(part) for part in batch.split(size)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error).splitlines()[0]
        # Out of the handler: the error's traceback holds what was allocated.
        if size == 1:
            raise OutOfMemoryError(
                f"Memory does not suffice for a single frame ({failure}). Close other programs, or make the video "
                "smaller."
            )
        size = -(-size // 2)
        logger.warning("Memory is short: pictures are now made %d at a time.", size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
