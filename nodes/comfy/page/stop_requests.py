"""Requests of the front end to end a node early and keep what is finished."""

from __future__ import annotations

import threading

from .node_run import NodeRun


class StopRequests:
    """Which running nodes were asked to stop and keep. Thread-safe: the server sets, the worker reads.

    ``stops`` counts the runs that ended early. It is part of the fingerprint of nodes that can be stopped. So ComfyUI
    does not take a shortened video from its cache for the whole one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[NodeRun] = set()
        self._asked: set[NodeRun] = set()
        self.stops = 0

    def begin(self, run: NodeRun) -> None:
        """A node starts running; an old request for it is forgotten."""
        with self._lock:
            self._running.add(run)
            self._asked.discard(run)

    def end(self, run: NodeRun, *, stopped: bool = False) -> None:
        """A node is done."""
        with self._lock:
            self._running.discard(run)
            self._asked.discard(run)
            self.stops += stopped

    def ask(self, node: str, prompt: str = "") -> bool:
        """Ask a node, of a certain prompt if one is named, to stop; returns whether it is running."""
        with self._lock:
            meant = {run for run in self._running if run.node == node and prompt in ("", run.prompt)}
            self._asked |= meant
            return bool(meant)

    def asked(self, run: NodeRun) -> bool:
        """Whether a run was asked to stop."""
        with self._lock:
            return run in self._asked


STOP_REQUESTS = StopRequests()
