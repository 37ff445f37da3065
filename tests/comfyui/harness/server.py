"""A real ComfyUI server for the integration tests: start, run a prompt over the websocket, stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

START_TIMEOUT = 900
"""Seconds; 20 on an idle machine."""
ENDS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass
class Result:
    """How a prompt ended: the last event's type, outputs by node, all events, number of previews, seconds."""

    status: str
    data: dict[str, Any]
    outputs: dict[str, Any]
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    previews: int = 0
    seconds: float = 0.0
    interrupt_latency: float | None = None

    def named(self, name: str) -> list[dict[str, Any]]:
        """Data of all events of a type."""
        return [data for _, kind, data in self.events if kind == name]


class ComfyServer:
    """A server of the ComfyUI at ``source`` with this pack linked into its custom nodes.

    Args:
        source: ComfyUI's repository.
        base: a folder for models, input, output, user and custom_nodes.
        python: the interpreter that has ComfyUI's requirements.
        extra_path: prepended to PYTHONPATH (an older front end beside the environment's own).
    """

    def __init__(self, source: Path, base: Path, python: str = sys.executable, extra_path: str | None = None) -> None:
        self.source, self.base, self.python, self.extra_path = source, base, python, extra_path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = base / "server.log"

    def start(self, *flags: str) -> None:
        """Start and wait until it answers.

        Raises:
            RuntimeError: with the end of the log if it dies or does not come up.
        """
        for name in ("user", "input", "output", "temp", "models", "custom_nodes"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        here = Path(__file__).resolve()
        for name, folder in (("ComfyUI-MCDM", here.parents[3]), ("mcdm_probe", here.parent / "probe_pack")):
            link = self.base / "custom_nodes" / name
            if not link.exists():
                link.symlink_to(folder, target_is_directory=True)
        environment = dict(os.environ)
        if self.extra_path:
            environment["PYTHONPATH"] = self.extra_path
        command = [self.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-api-nodes", "--base-directory", str(self.base)]
        command += ["--database-url", f"sqlite:///{self.base}/user/comfyui.db", *flags]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.source, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.stats = self.get("/system_stats")
                return
            except (OSError, ValueError):
                time.sleep(0.25)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-4000:]}")

    def attach(self, port: int) -> None:
        """Use a server that runs already, with the same base folder; it is left running."""
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.stats = self.get("/system_stats")

    def stop(self, *, kill: bool = False) -> None:
        """End the server; ``kill`` as a crash would."""
        if self.process is None:
            return
        (self.process.kill if kill else self.process.terminate)()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    @property
    def version(self) -> str:
        """Of this ComfyUI."""
        return self.stats["system"]["comfyui_version"]

    def log(self) -> str:
        """Everything the server has written."""
        return self.log_path.read_text(errors="replace")

    @cached_property
    def _of_process(self) -> Path:
        """What the system knows of the server's process (Linux)."""
        return Path("/proc") / str(self.get("/mcdm_probe/process")["pid"])

    def resident_megabytes(self) -> float:
        """Resident memory of the server."""
        status = (self._of_process / "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def computed_seconds(self) -> float:
        """Seconds that the server has computed, on all cores, since it was started."""
        user, system = (self._of_process / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str, timeout: float = 30) -> Any:
        """JSON of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return json.load(answer)

    def post(self, path: str, data: Any) -> tuple[int, Any]:
        """Status and JSON (or text) of a POST."""
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            body, status = error.read(), error.code
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode(errors="replace")

    def history(self, prompt_id: str, timeout: float = 60) -> dict[str, Any]:
        """A finished prompt's entry, which the server writes a moment after it has told the end."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.get(f"/history/{prompt_id}")
            if prompt_id in found:
                return found[prompt_id]
            time.sleep(0.1)
        raise RuntimeError(f"No history of {prompt_id}.")

    def run(self, prompt: dict[str, Any], timeout: float = 1800, **how: Any) -> Result:
        """Queue a prompt and wait for its end; see :meth:`_run`."""
        return asyncio.run(asyncio.wait_for(self._run(prompt, **how), timeout))

    async def _run(
        self, prompt: dict[str, Any], *, on_event: Any = None, as_page: bool = False, workflow: Any = None
    ) -> Result:
        """Run a prompt over the websocket.

        Args:
            on_event: ``(server, type, data)`` may act on events as they come; returning "interrupt" presses Cancel.
            as_page: announce what ComfyUI's own page announces.
            workflow: as the page sends it along.
        """
        import aiohttp

        client = uuid.uuid4().hex
        result = Result("", {}, {})
        async with aiohttp.ClientSession() as session:
            socket_url = f"{self.url}/ws?clientId={client}"
            async with session.ws_connect(socket_url, max_msg_size=0) as messages:
                if as_page:
                    flags = {"supports_preview_metadata": True}
                    await messages.send_json({"type": "feature_flags", "data": flags})
                queued = {"prompt": prompt, "client_id": client}
                if workflow is not None:
                    queued["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
                answer = await session.post(f"{self.url}/prompt", json=queued)
                reply = await answer.json()
                if answer.status != 200:
                    return Result("rejected", reply, {})
                started, cancelled = time.monotonic(), None
                async for message in messages:
                    if message.type == aiohttp.WSMsgType.BINARY:
                        result.previews += 1
                        continue
                    if message.type != aiohttp.WSMsgType.TEXT:
                        continue
                    parsed = json.loads(message.data)
                    kind, data = parsed["type"], parsed.get("data") or {}
                    if kind == "status":
                        continue
                    result.events.append((time.monotonic() - started, kind, data))
                    if kind == "executed":
                        result.outputs[data["node"]] = data["output"]
                    if on_event is not None:
                        action = on_event(self, kind, data)
                        if action == "interrupt" and cancelled is None:
                            cancelled = time.monotonic()
                            await session.post(f"{self.url}/interrupt", json={})
                        elif isinstance(action, tuple):
                            await session.post(self.url + action[0], json=action[1])
                    if kind in ENDS and data.get("prompt_id") == reply["prompt_id"]:
                        result.status, result.data = kind, data
                        result.seconds = time.monotonic() - started
                        if cancelled is not None:
                            result.interrupt_latency = time.monotonic() - cancelled
                        return result
        raise RuntimeError("The websocket closed before the prompt ended.")
