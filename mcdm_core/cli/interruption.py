"""Ctrl-C and a request to end (SIGTERM): one way to stop, kept waiting while something is written as a whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked the program to stop.

    Attributes:
        status: the exit status that tells which, as shells do: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def exit_status(error: KeyboardInterrupt) -> int:
    """The exit status after an interruption."""
    return getattr(error, "status", 130)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise :class:`Stopped` on SIGTERM and its like as on Ctrl-C, so that everything is closed in order.

    A signal that was ignored before (``nohup``) stays ignored. Outside of the main thread nothing is changed.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Raise a :class:`Stopped` for a signal that comes inside the block at its end; a second one does not wait.

    Outside of the main thread, where Python delivers no signals, nothing is changed.
    """
    asked = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise Stopped(number)
        asked = number

    with _handled(note):
        yield
    if asked:
        raise Stopped(asked)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    chosen = [number for number, current in before.items() if current not in (signal.SIG_IGN, None)]
    for number in chosen:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, before[number])
