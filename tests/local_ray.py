"""A Ray of two processors on this machine, however busy it is.

Ray's own start gives up after 15 seconds if its helpers have not told their ports by then. With ports given it waits
for none of them. ``MCDM_RAY_START`` sets the seconds that the start may take (600).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

START_SECONDS = float(os.environ.get("MCDM_RAY_START", "600"))
_PORTS = (
    "port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def local_ray() -> Iterator[str]:
    """Start Ray, again where it was too slow; yields its address, and ends it.

    Raises:
        RuntimeError: if it does not start in time.
    """
    until = time.monotonic() + START_SECONDS
    # Its sockets lie in this folder, whose name may not be long.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "start.log"
        while True:
            process, address = _start(Path(folder), log)
            try:
                while "Ray runtime started" not in _read(log) and process.poll() is None and time.monotonic() < until:
                    time.sleep(0.2)
                if "Ray runtime started" in _read(log):
                    yield address
                    return
            finally:
                _end(process)
            if time.monotonic() > until:
                raise RuntimeError(f"Ray did not start: {_read(log)[-2000:]}")


def _start(folder: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The process of a Ray that starts, and its address to be."""
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}/ray"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    root = str(Path(__file__).parents[1])
    more = {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    # Workers import torch, which takes long on a busy machine as well.
    more["RAY_worker_register_timeout_seconds"] = str(int(START_SECONDS))
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, **more}, start_new_session=True
        )
    return process, f"127.0.0.1:{ports['port']}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Ray and all that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(60)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(log: Path) -> str:
    return log.read_text(errors="replace")
