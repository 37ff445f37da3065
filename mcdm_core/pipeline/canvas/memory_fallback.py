"""What is done where the device's memory does not suffice: the same in smaller parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...errors import OutOfMemoryError, first_line, is_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")


def in_smaller_parts(
    function: Callable[[Tensor], T],
    batch: Tensor,
    what: str = "pictures",
    join: Callable[..., Any] = torch.cat,
    in_tiles: Callable[[], bool] | None = None,
) -> T:
    """``function`` of a batch ``[b, ...]``, of halves of it where memory runs out, at last one by one.

    Args:
        what: the user is told to be made in parts; join: makes one result of the parts' results.
        in_tiles: lets the function do with less memory even so, and tells whether it did.

    Raises:
        OutOfMemoryError: if memory does not suffice for one either.

    >>> in_smaller_parts(lambda part: part * 2, torch.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """
    size = max(1, len(batch))
    while True:
        try:
            parts = [function(part) for part in batch.split(size)]
            return parts[0] if len(parts) == 1 else join(parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = first_line(error)
        # Out of the handler: the error's traceback holds what was allocated.
        if size == 1 and in_tiles is not None and in_tiles():
            logger.warning("Memory is short: %s are now made in tiles, which changes them a little.", what)
        elif size == 1:
            raise OutOfMemoryError(
                f"Memory does not suffice for {what}, not even one at a time ({failure}). Close other programs, or "
                "make the video smaller."
            )
        else:
            size = -(-size // 2)
            logger.warning("Memory is short: %s are now made %d at a time.", what, size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
