"""Attempts to make a video in processes of their own, which can be killed, starved of memory or of room on the disk."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

TRIES = int(os.environ.get("MCDM_FAULTS", "6"))
"""Faults of each kind; 500 for the whole harness."""
SECONDS_A_KIND = float(os.environ.get("MCDM_FAULTS_SECONDS", "inf"))
"""No fault of a kind begins later than this after the first."""
LONGEST = 900
"""Seconds after which an attempt counts as hanging."""


@dataclass
class Ending:
    """How an attempt ended: ``status`` as a shell shows it, what it said, seconds by the clock and of the processor."""

    status: int
    said: str
    seconds: float
    worked: float


@dataclass
class Tally:
    """What the faults of one kind cost.

    Attributes:
        unplayable: videos that do not play; lost: clips that were finished and had to be made again.
        tracebacks: attempts that ended in one.
        longest: seconds by the clock of the longest attempt; worked: of the processor, in the busiest.
    """

    tries: int = 0
    ended: int = 0
    unplayable: int = 0
    lost: int = 0
    most_lost: int = 0
    tracebacks: int = 0
    longest: float = 0.0
    worked: float = 0.0
    others: list[str] = field(default_factory=list)

    def note(self, ending: Ending) -> None:
        """Count an attempt."""
        self.tries += 1
        self.ended += ending.status != 0
        self.longest, self.worked = max(self.longest, ending.seconds), max(self.worked, ending.worked)
        if "Traceback" in ending.said:
            self.tracebacks += 1
            self.others.append(ending.said[-1500:])


def attempt(
    work: Callable[[], int],
    log: Path,
    *,
    after: float | None = None,
    sent: int = signal.SIGKILL,
    file_size: int | None = None,
    more_memory: int | None = None,
) -> Ending:
    """Do some work in a child of this process.

    Args:
        work: returns the exit status.
        log: where its messages go.
        after: seconds of the processor until ``sent`` is sent to it, alike on a busy machine; None lets it be.
        file_size, more_memory: limits in bytes of each file it writes, and of memory beside what this process has.
    """
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(work, log, file_size, more_memory)
    while (done := os.wait4(child, os.WNOHANG))[0] == 0:
        if after is not None and _seconds_of_processor(child) >= after:
            os.kill(child, sent)
            after = None
        if time.monotonic() - began > LONGEST:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"an attempt took longer than {LONGEST} s: {log.read_text(errors='replace')}")
        time.sleep(0.002)
    _, status, used = done
    code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    worked = used.ru_utime + used.ru_stime
    return Ending(code, log.read_text(errors="replace"), time.monotonic() - began, worked)


def afresh(work: Callable[..., T], *given: Any) -> T:
    """What ``work(*given)`` of a module returns in a Python of its own.

    What this process had freed again would lie ready for those that are to be short of memory.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def limit_memory(more: int) -> None:
    """This process may take so many bytes more than it has now."""
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (have + more, have + more))


def _seconds_of_processor(process: int) -> float:
    """What a running process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(work: Callable[[], int], log: Path, file_size: int | None, more_memory: int | None) -> None:
    status = 99
    torch.set_num_threads(1)  # a fork has none of its parent's threads, and would wait for them
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
        if more_memory is not None:
            limit_memory(more_memory)
        status = work()
    except KeyboardInterrupt:  # before the command was there to take it
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # for the log
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def moments(seed: int, longest: float, count: int = TRIES) -> Iterator[float]:
    """Random moments of an attempt that takes so long (or sizes up to so much), as many as the time allows."""
    chance, began = random.Random(seed), time.monotonic()
    for _ in range(count):
        if time.monotonic() - began > SECONDS_A_KIND:
            return
        yield chance.uniform(0, longest)
