"""What this machine can do at most, what a process holds, and other work beside it."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

MEBIBYTE = 2**20
_SPIN = "while True: sum(range(10_000))"


def processor() -> str:
    """Its name, as Linux tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronize(device: torch.device) -> None:
    """Wait for a GPU's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gflops(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Largest rate of a square matrix product, in 10^9 floating-point operations a second.

    The best of many short runs: what the machine does when nobody disturbs it. One thread is measured by its own time,
    since other programs may hold its core all along.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    size = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds or not best:
        synchronize(device)
        start = clock()
        a @ b
        synchronize(device)
        best = max(best, 2 * size**3 / max(clock() - start, 1e-9) / 1e9)
    return best


def begin_peak() -> None:
    """Count the peak of :func:`peak_mib` from here (Linux; elsewhere it counts from the process' start)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    """Most memory this process has held, in MiB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MEBIBYTE if sys.platform == "darwin" else 1024)


def begin_device_peak(device: torch.device) -> None:
    """Count the peak of :func:`device_peak_mib` from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_mib(device: torch.device) -> float:
    """Most memory that tensors have held on a GPU, in MiB; 0 on the CPU."""
    return torch.cuda.max_memory_allocated(device) / MEBIBYTE if device.type == "cuda" else 0.0


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Other processes that compute without a pause, on the same cores."""
    running = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
