"""Many independent pieces of work over processes, or over a Ray cluster: each is done once, none stops the others."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, TypeVar

from ..errors import MCDMError, reason

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
ENGINES = ("processes", "ray")
_TRIES = 3
"""How often a piece is begun whose process dies. After the first time it is alone, so that no other takes it along."""


class Outcome(NamedTuple):
    """What became of the piece ``number``: its value, or why there is none."""

    number: int
    value: Any
    error: str


def run_all(
    work: Callable[[Item], Any], items: Sequence[Item], workers: int = 1, engine: str = "processes"
) -> Iterator[Outcome]:
    """Do all pieces; outcomes come as they are ready, in any order.

    An exception in a piece is its outcome's error. A process that dies (killed, out of memory) is replaced, and what it
    had begun is begun again.

    Args:
        work: can be pickled, as its items can; keep what is costly to make (a network) in a cache of its module. It
            returns what JSON can hold.
        workers: processes at a time; 1 works in this process.
        engine: ``"processes"``, or ``"ray"`` for the nodes of a Ray cluster (RAY_ADDRESS), a local one by default.

    Raises:
        MCDMError: for an unknown engine, or one that is not installed or does not start.
    """
    if engine not in ENGINES:
        raise MCDMError(f"There is no engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    if engine == "ray":
        yield from _over_ray(work, items, workers)
    elif workers <= 1 or len(items) <= 1:
        for number, item in enumerate(items):
            yield _attempt(work, number, item)
    else:
        yield from _over_processes(work, items, workers)


def _attempt(work: Callable[[Item], Any], number: int, item: Item) -> Outcome:
    try:
        return Outcome(number, work(item), "")
    except MCDMError as error:
        return Outcome(number, None, str(error))
    except Exception as error:
        logger.exception("a piece of work failed")
        return Outcome(number, None, f"{type(error).__name__}: {error}")


def _quiet_worker() -> None:
    """One thread each: waiting threads of several processes would keep each other from working."""
    import torch

    torch.set_num_threads(1)


def _over_processes(work: Callable[[Item], Any], items: Sequence[Item], workers: int) -> Iterator[Outcome]:
    waiting = list(range(len(items)))[::-1]
    suspects: list[int] = []
    begun = [0] * len(items)
    while waiting or suspects:
        batch, at_once = ([suspects.pop()], 1) if suspects else (waiting, workers)
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(min(at_once, len(batch)), mp_context=context, initializer=_quiet_worker) as pool:
            running: dict[Future[Outcome], int] = {}
            try:
                while batch or running:
                    # No more than there are processes: what waits in a pool would be lost with it as well.
                    while batch and len(running) < at_once:
                        number = batch[-1]
                        running[pool.submit(_attempt, work, number, items[number])] = number
                        begun[batch.pop()] += 1
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = future.result()
                        del running[future]
                        yield outcome
            except BrokenProcessPool:
                lost = sorted(running.values(), reverse=True)
                logger.warning("a process died; %d pieces are begun again", len(lost))
                for number in lost:
                    if begun[number] < _TRIES:
                        suspects.append(number)
                    else:
                        yield Outcome(number, None, "the process died each time; out of memory?")
            except BaseException:
                # Asked to stop: whoever waits for the end of this program should not wait for pieces of minutes.
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise


def _over_ray(work: Callable[[Item], Any], items: Sequence[Item], workers: int) -> Iterator[Outcome]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MCDMError("The engine 'ray' needs the package: pip install 'ray[data]'.") from error
    if not ray.is_initialized():
        own = {} if os.getenv("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(logging_level=logging.WARNING, **own)
        except Exception as error:  # Ray raises a bare Exception where a busy machine starts it too slowly
            raise MCDMError(
                f"Ray did not start ({reason(error)}). Start it with `ray start --head` and set RAY_ADDRESS=auto, "
                "or use the engine 'processes'."
            ) from error
    pieces = list(items)

    def attempt(row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        return {"outcome": json.dumps(_attempt(work, number, pieces[number]))}

    rows = [{"number": number} for number in range(len(pieces))]
    data = ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))
    for row in data.map(attempt, max_retries=_TRIES, num_cpus=1).iter_rows():
        yield Outcome(*json.loads(row["outcome"]))
