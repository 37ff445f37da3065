"""Which node of which workflow runs, the events it sends to the browser, and a journal for pages that come late."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfy_api.latest import io

KEPT_RUNS = 32
"""Runs whose events are kept; a five-minute one holds some 300 KB."""


@dataclass(frozen=True)
class NodeRun:
    """One execution of a node.

    Attributes:
        node: execution id, such as "7", or "1:7" inside a subgraph.
        workflow: id of the workflow as the page has it; empty for clients without one.
        prompt: id of the prompt.
    """

    node: str
    workflow: str = ""
    prompt: str = ""

    @classmethod
    def of(cls, node: type[io.ComfyNode]) -> NodeRun:
        """The present execution of a node class that asks for the hidden ``unique_id`` and ``extra_pnginfo``."""
        from comfy_execution.utils import get_executing_context

        workflow = (node.hidden.extra_pnginfo or {}).get("workflow") or {}
        context = get_executing_context()
        return cls(str(node.hidden.unique_id), str(workflow.get("id") or ""), context.prompt_id if context else "")

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Send ``mcdm.<name>`` to the browser that started the prompt, and keep it; without a server only keep it."""
        message = {"node": self.node, "workflow": self.workflow, "prompt_id": self.prompt} | _finite(data)
        message["seq"] = JOURNAL.next_number()
        JOURNAL.add(name, message)
        send_event(name, message)


class Journal:
    """The events of the latest runs. Thread-safe: the worker writes, the server reads.

    A page that was reloaded in the middle of a run, or gets a node's result from ComfyUI's cache, asks for them.
    """

    def __init__(self, kept: int = KEPT_RUNS) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._number = 0
        self._runs: OrderedDict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = OrderedDict()

    def next_number(self) -> int:
        """Numbers the events, so that a page can leave out what it has had already; they grow over restarts too."""
        with self._lock:
            self._number = max(self._number + 1, time.time_ns() // 1_000_000)
            return self._number

    def add(self, name: str, message: dict[str, Any]) -> None:
        """Keep an event; ``start`` begins a node's run anew, single frames are not kept."""
        key = message["workflow"], message["node"]
        with self._lock:
            if name == "start":
                self._runs[key] = []
                self._runs.move_to_end(key)
                while len(self._runs) > self._kept:
                    self._runs.popitem(last=False)
            run = self._runs.get(key)
            if run is None or name == "frame":
                return
            if name == "progress" and run[-1][0] == "progress":
                run.pop()
            run.append((name, message))

    def of_workflow(self, workflow: str) -> list[list[tuple[str, dict[str, Any]]]]:
        """The events of each node's latest run in a workflow."""
        with self._lock:
            return [list(run) for (of, _), run in self._runs.items() if of == workflow]

    def of_file(self, filename: str, subfolder: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of the run that made a video; none if it is not known."""
        place = (filename, subfolder, kind)
        with self._lock:
            for run in reversed(self._runs.values()):
                for name, data in run:
                    if name == "done" and (data.get("filename"), data.get("subfolder"), data.get("type")) == place:
                        return list(run)
        return []


JOURNAL = Journal()


def send_event(name: str, message: dict[str, Any]) -> None:
    """Send ``mcdm.<name>`` to the browser that started the prompt; without a server nothing happens."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None:
        server.send_sync(f"mcdm.{name}", message, server.client_id)


def failure_reason(error: BaseException) -> str:
    """``interrupted`` for the user's Cancel, whichever class it is in this ComfyUI, else ``error``."""
    return "interrupted" if type(error).__name__ == "InterruptProcessingException" else "error"


def _finite(value: Any) -> Any:
    """The same value with NaN and infinity replaced by None, which JSON in the browser can read."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
