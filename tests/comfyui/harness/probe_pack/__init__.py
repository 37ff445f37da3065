"""A custom node pack for the tests alone: how long does each node go without asking for ComfyUI's interrupt?

``GET /mcdm_probe/gaps`` answers with the longest such time of every node that ran since the last question: seconds by
the clock, seconds of computing (of the worker's thread: what it would take on an idle machine), and what ended it;
and the same two sums over the whole node, whose ratio says how busy the machine is. ``GET /mcdm_probe/process`` answers
with the server's process id, for tests that watch the memory of a server that they did not start.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import comfy.model_management
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, Any] = {}


class Gaps:
    """Longest time between two marks by node."""

    def __init__(self) -> None:
        self.node: str | None = None
        self.at = (0.0, 0.0)
        self.longest: dict[str, dict[str, Any]] = {}

    def mark(self, where: str) -> None:
        """A moment at which the running node can be stopped."""
        now = (time.perf_counter(), time.thread_time())
        if self.node is not None:
            wall, cpu = now[0] - self.at[0], now[1] - self.at[1]
            new = {"cpu": 0.0, "wall": 0.0, "where": "", "asked": 0, "all_cpu": 0.0, "all_wall": 0.0}
            entry = self.longest.setdefault(self.node, new)
            entry["asked"] += 1
            entry["all_wall"] += wall
            entry["all_cpu"] += cpu
            entry["wall"] = max(entry["wall"], wall)
            if cpu > entry["cpu"]:
                entry |= {"cpu": cpu, "where": where}
        self.at = now


GAPS = Gaps()
ask = comfy.model_management.throw_exception_if_processing_interrupted
send = PromptServer.instance.send_sync


def asked() -> None:
    """In place of ComfyUI's own check."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name in ("check_interrupt", "_enter", "update", "__torch_function__"):
        frame = frame.f_back
    GAPS.mark(f"{frame.f_code.co_filename.rsplit('/', 2)[-1]}:{frame.f_lineno}" if frame else "")
    ask()


def sent(event: Any, data: Any, sid: Any = None) -> None:
    """In place of the server's own; a node begins with its ``executing`` event and ends with the next one."""
    if event == "executing":
        GAPS.mark("the node's end")
        GAPS.node = data.get("node")
    send(event, data, sid)


comfy.model_management.throw_exception_if_processing_interrupted = asked
PromptServer.instance.send_sync = sent


@PromptServer.instance.routes.get("/mcdm_probe/gaps")
async def gaps(request: web.Request) -> web.Response:
    """What has been measured; begins anew."""
    found, GAPS.longest = GAPS.longest, {}
    return web.json_response(found)


@PromptServer.instance.routes.get("/mcdm_probe/process")
async def process(request: web.Request) -> web.Response:
    """Id of the server's process."""
    return web.json_response({"pid": os.getpid()})
