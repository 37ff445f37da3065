"""Two kinds of work on clips at a time: one clip is painted while the next one is denoised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def while_the_next(
    paint: Callable[[T], R], clips: Iterator[T], device: torch.device, *, overlap: bool | None = None
) -> Iterator[R]:
    """``map(paint, clips)``; on a GPU in a thread and a stream of its own, while the next clip is asked for.

    The first clip waits for nothing. What was begun is still given before a failure of the next clip is raised.

    Args:
        overlap: whether to, by default on CUDA alone: on a CPU both would share its cores.

    >>> list(while_the_next(lambda clip: 2 * clip, iter([1, 2, 3]), torch.device("cpu"), overlap=True))
    [2, 4, 6]
    """
    if not (device.type == "cuda" if overlap is None else overlap):
        yield from map(paint, clips)
        return
    for first in clips:
        yield paint(first)
        break
    with ThreadPoolExecutor(1, "painting") as pool:
        begun: Future[R] | None = None
        while True:
            try:
                following = next(clips)
            except StopIteration:
                if begun is not None:
                    yield begun.result()
                return
            except BaseException:
                if begun is not None:
                    yield begun.result()
                raise
            if begun is not None:
                yield begun.result()
            begun = pool.submit(_beside(paint, device), following)


def _beside(paint: Callable[[T], R], device: torch.device) -> Callable[[T], R]:
    """``paint`` in a stream beside the current one, after what that one has been told so far."""
    if device.type != "cuda":
        return paint
    ready, beside = torch.cuda.Event(), torch.cuda.Stream(device)
    ready.record(torch.cuda.current_stream(device))

    def painted(clip: T) -> R:
        with torch.cuda.stream(beside):
            beside.wait_event(ready)
            made = paint(clip)
            beside.synchronize()
        return made

    return painted
