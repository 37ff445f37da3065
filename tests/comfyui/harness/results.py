"""Looking at what a prompt made: files, frames, sound, and the server's memory meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def by_type(prompt: dict[str, Any], kind: str) -> list[str]:
    """Ids of the nodes of a type."""
    return [number for number, node in prompt.items() if node["class_type"] == kind]


def needs(prompt: dict[str, Any], number: str) -> set[str]:
    """A node and all that it needs."""
    links = [value[0] for value in prompt[number]["inputs"].values() if isinstance(value, list)]
    return {number}.union(*(needs(prompt, link) for link in links))


def keep_only(prompt: dict[str, Any], number: str) -> None:
    """Take out of a prompt what neither the node ``number`` needs nor shows its result."""
    wanted = set().union(*(nodes for nodes in (needs(prompt, other) for other in prompt) if number in nodes))
    for other in set(prompt) - wanted:
        del prompt[other]


def saved(server: Any, entry: dict[str, Any]) -> Path:
    """Path of a saved file of an ``executed`` event."""
    return server.base / entry["type"] / entry["subfolder"] / entry["filename"]


def read(path: Path) -> tuple[list[Any], float | None, float]:
    """Frames, length of the sound in seconds but for its last block (None: no sound), and loudest sample of a video."""
    import av
    import numpy as np

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, None, 0.0
        stream = container.streams.audio[0]
        blocks = [frame.to_ndarray() for frame in container.decode(stream)]
        # aac comes in blocks of 1024 samples; the last one may reach beyond the picture.
        length = float(stream.duration * stream.time_base) - 1024 / stream.rate
        return frames, length, float(max(np.abs(block).max() for block in blocks))


@contextmanager
def watched_memory(server: Any, readings: list[tuple[float, float]], interval: float = 3.0) -> Iterator[None]:
    """Append (seconds, resident MB) every ``interval`` seconds."""
    over = threading.Event()
    begin = time.monotonic()

    def watch() -> None:
        while not over.wait(interval):
            readings.append((time.monotonic() - begin, server.resident_megabytes()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
