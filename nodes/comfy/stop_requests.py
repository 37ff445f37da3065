"""Requests of the front end to end a sampling node early and keep what is finished."""

from __future__ import annotations

import threading


class StopRequests:
    """Which running nodes were asked to stop after their present clip. Thread-safe: the server sets, the worker reads.

    ``stops`` counts the runs that ended early. It is part of the sampling node's fingerprint, so that ComfyUI does
    not take a shortened video from its cache for the whole one; the next run goes on from what lies on disk.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._asked: set[str] = set()
        self.stops = 0

    def begin(self, node: str) -> None:
        """A node starts running; an old request for it is forgotten."""
        with self._lock:
            self._running.add(node)
            self._asked.discard(node)

    def end(self, node: str, *, stopped: bool = False) -> None:
        """A node is done."""
        with self._lock:
            self._running.discard(node)
            self._asked.discard(node)
            self.stops += stopped

    def ask(self, node: str) -> bool:
        """Ask a node to stop; returns whether it is running."""
        with self._lock:
            if node not in self._running:
                return False
            self._asked.add(node)
            return True

    def asked(self, node: str) -> bool:
        """Whether a node was asked to stop."""
        with self._lock:
            return node in self._asked


STOP_REQUESTS = StopRequests()
