"""Runs a speech engine in a forked copy of this process, so that what it said before cannot be heard.

espeak-ng keeps the phase of its pitch flutter from one utterance to the next, and flite the state of its noise source.
Neither can be started twice. Without fork (Windows) they speak in this process, and clips depend on their order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence

import numpy as np

from ....errors import PackageError

Utterance = tuple[np.ndarray, int, list[tuple[str, float, float]]]
"""Sound ``[s]`` float32, its rate in Hz, and symbols with start and end in seconds."""


class EngineStoppedError(PackageError):
    """The speech engine crashed over a sentence, as some of its voices do now and then; another one may do."""


def speak_afresh(say: Callable[..., Utterance], request: Sequence[object]) -> Utterance:
    """``say(*request)`` in a copy of this process.

    Raises:
        PackageError: with the engine's message if it fails; EngineStoppedError: if it crashes.
    """
    if not hasattr(os, "fork"):
        return say(*request)
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        with os.fdopen(sink, "wb") as stream:
            try:
                audio, rate, marks = say(*request)
                head = {"rate": rate, "marks": marks}
            except Exception as error:  # reported by the parent
                audio, head = np.zeros(0, np.float32), {"error": str(error)}
            stream.write(json.dumps(head).encode() + b"\n" + audio.astype(np.float32).tobytes())
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as stream:
        head, _, data = stream.read().partition(b"\n")
    os.waitpid(child, 0)
    if not head:
        raise EngineStoppedError(f"the speech engine stopped while it spoke {request[0]!r}")
    answer = json.loads(head)
    if "error" in answer:
        raise PackageError(answer["error"])
    return np.frombuffer(data, np.float32), answer["rate"], [(s, a, b) for s, a, b in answer["marks"]]
