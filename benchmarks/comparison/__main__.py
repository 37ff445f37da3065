"""Before and after, from one run: an old checkout and this one take turns on the same machine.

    git worktree add ../before COMMIT
    python -m benchmarks.comparison ../before [--size 384 1080 1920] [--neighbours 0 1 4] [--json FILE]

Three computations of one video are compared at equal weights, those of the old checkout, and an equal number of steps:
the old code, this code in float32, this code in bfloat16. The fourth is this code with its own weights and steps. Every
part is timed in turns, in processes that wait asleep; then the whole command, from its start to its first clip and to
its end. The table has milliseconds a frame (of ``read`` and ``face`` a picture, of ``start`` and ``video`` altogether),
median and quartiles, of the clock and of the processor.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcdm_core.pipeline.defaults import sampling_defaults
from mcdm_core.samples import default_portrait, default_voice

from ..machine import neighbours, processor
from ..whole import Command, run_command

OF_A_SIZE = ("read", "face", "finish", "encode")
"""Parts whose work depends on the video's size; the others are timed at the first size alone."""
OF_A_CLIP = ("audio", "motion", "pictures")
A_FRAME = ("motion", "pictures", "finish", "encode")
"""What every frame costs: their sum is told as ``frame``."""
WHOLE = ("start", "video")
PARTS = OF_A_SIZE + OF_A_CLIP + WHOLE
_HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Way:
    """A checkout with weights, a number format and a number of steps; None: its own."""

    name: str
    checkout: Path
    weights: Path | None
    dtype: str
    steps: int | None


@dataclass(frozen=True)
class Time:
    """Milliseconds of the clock and of the processor."""

    clock: float
    cpu: float


class Worker:
    """A process that times a checkout's parts on request (``worker.py``)."""

    def __init__(self, way: Way, threads: int) -> None:
        given = {
            "portrait": str(default_portrait()),
            "voice": str(default_voice()),
            "weights": way.weights and str(way.weights),
            "dtype": way.dtype,
            "threads": threads,
            "steps": way.steps,
        }
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(given)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=way.checkout,
            env={**os.environ, "PYTHONPATH": str(way.checkout)},
        )

    def time(self, part: str, size: int) -> Time:
        """One run of a part.

        Raises:
            RuntimeError: if the process ended, which has said why on the standard error.
        """
        assert self._process.stdin and self._process.stdout
        print(json.dumps([part, size]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended while it timed {part!r}")
        made = json.loads(line)
        return Time(*(1000 * made[key] / made["frames"] for key in ("s", "cpu_s")))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def workers(ways: Sequence[Way], threads: int) -> Iterator[dict[str, Worker]]:
    """A process for each way."""
    with ExitStack() as stack:
        running = {}
        for way in ways:
            running[way.name] = Worker(way, threads)
            stack.callback(running[way.name].close)
        yield running


def in_turns(
    running: dict[str, Worker], parts: Sequence[str], size: int, repeats: int
) -> dict[tuple[str, str], list[Time]]:
    """Times by part and way; the first turn, in which kernels are chosen, does not count."""
    times: dict[tuple[str, str], list[Time]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for part in parts:
            for name, worker in running.items():
                taken = worker.time(part, size)
                if repeat:
                    times[part, name].append(taken)
    return times


def commands_in_turns(
    ways: Sequence[Way], parts: Sequence[str], size: int, frames: int, threads: int, repeats: int
) -> dict[tuple[str, str], list[Time]]:
    """The same of the whole command: its first clip on the disk, and the finished video."""
    times: dict[tuple[str, str], list[Time]] = defaultdict(list)
    for _ in range(repeats):
        for way in ways:
            run = run_command(
                Command(size, frames, threads, way.dtype, way.weights, steps=way.steps, checkout=way.checkout)
            )
            found = {"start": Time(run.first, run.first_cpu), "video": Time(run.whole, run.whole_cpu)}
            for part in parts:
                times[part, way.name].append(Time(1000 * found[part].clock, 1000 * found[part].cpu))
    return times


def rows(times: dict[tuple[str, str], list[Time]], ways: Sequence[Way], case: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a part and way, and the sum of what a frame costs; ``gain`` is by the processor's time over the first way.

    >>> from pathlib import Path
    >>> old, new = (Way(name, Path(), None, "float32", None) for name in ("old", "new"))
    >>> times = {("encode", "old"): [Time(4.0, 4.0)], ("encode", "new"): [Time(3.0, 2.0)]}
    >>> [(row["way"], row["ms"], row["gain"]) for row in rows(times, [old, new], {})]
    [('old', 4.0, 1.0), ('new', 3.0, 2.0)]
    """
    found: list[dict[str, Any]] = []
    for part in dict.fromkeys(part for part, _ in times):
        first: float | None = None
        for way in ways:
            row = {**case, "part": part, "way": way.name, **_summary(times[part, way.name])}
            first = row["cpu_ms"] if first is None else first
            found.append({**row, "gain": first / max(row["cpu_ms"], 1e-9)})
    return found


def _summary(times: list[Time]) -> dict[str, Any]:
    clock, cpu = (sorted(getattr(time, of) for time in times) for of in ("clock", "cpu"))
    low, _, high = statistics.quantiles(clock, n=4, method="inclusive") if len(clock) > 1 else clock * 3
    return {"ms": statistics.median(clock), "quartiles": [low, high], "cpu_ms": statistics.median(cpu), "times": clock}


def of_a_frame(found: list[dict[str, Any]], ways: Sequence[Way], case: dict[str, Any]) -> list[dict[str, Any]]:
    """What a frame costs altogether, where all its parts were timed beside the same neighbours."""
    made: list[dict[str, Any]] = []
    for way in ways:
        own = {
            row["part"]: row
            for row in found
            if row["way"] == way.name and row["neighbours"] == case["neighbours"]
            and (row["size"] == case["size"] or row["part"] in OF_A_CLIP)
        }  # fmt: skip
        if all(part in own for part in A_FRAME):
            clock, cpu = (sum(own[part][of] for part in A_FRAME) for of in ("ms", "cpu_ms"))
            made.append({**case, "part": "frame", "way": way.name, "ms": clock, "cpu_ms": cpu})
    return [{**row, "gain": made[0]["cpu_ms"] / max(row["cpu_ms"], 1e-9)} for row in made]


def show(found: list[dict[str, Any]]) -> None:
    """A line a row."""
    for row in found:
        low, high = row.get("quartiles", (math.nan, math.nan))
        spread = f"{low:.1f} to {high:.1f}" if low == low else ""
        print(
            f"{row['size']:5} {row['neighbours']:2} {row['part']:9} {row['way']:16} {row['ms']:10.2f} {spread:>20} "
            f"{row['cpu_ms']:10.2f} {row['gain']:6.2f}",
            flush=True,
        )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=(__doc__ or "").split("\n")[0])
    made.add_argument("before", type=Path, help="folder of the old checkout")
    made.add_argument("--weights", type=Path, help="of the comparison at equal weights (default: the old checkout's)")
    made.add_argument("--steps", type=int, default=1, help="of the comparison at equal weights (default: %(default)s)")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--size", type=int, nargs="+", default=[384], help="longer sides of the video in pixels")
    made.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 4], help="busy processes beside it")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    made.add_argument("--frames", type=int, default=112, help="of the whole video")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--json", type=Path, help="write everything there as well")
    return made


def main() -> int:
    """Measure, print the table, write JSON after every case."""
    options = parser().parse_args()
    before = options.before.resolve()
    weights = options.weights or before / "mcdm_core" / "assets" / "mcdm_tiny.safetensors"
    for needed in (before / "mcdm_core" / "pipeline", weights):
        if not needed.exists():
            print(
                f"{needed} is not there. Give the folder of a checkout (git worktree add), with weights.",
                file=sys.stderr,
            )
            return 2
    ways = [
        Way("before", before, weights, "float32", options.steps),
        Way("now, float32", _HERE, weights.resolve(), "float32", options.steps),
        Way("now, bfloat16", _HERE, weights.resolve(), "bfloat16", options.steps),
        Way("own weights", _HERE, None, "bfloat16", sampling_defaults("tiny").steps),
    ]
    print(f"{processor()}, {options.threads} threads, {options.repeats} repeats, steps {[way.steps for way in ways]}")
    print(f"{'size':>5} {'by':>2} {'part':9} {'way':16} {'ms':>10} {'quartiles':>20} {'of the CPU':>10} {'gain':>6}")
    found: list[dict[str, Any]] = []
    for others in options.neighbours:
        for index, size in enumerate(options.size):
            case = {"size": size, "neighbours": others}
            chosen = [part for part in OF_A_SIZE + (OF_A_CLIP if not index else ()) if part in options.parts]
            whole = [part for part in WHOLE if part in options.parts]
            with neighbours(others):
                times: dict[tuple[str, str], list[Time]] = {}
                if chosen:
                    with workers(ways, options.threads) as running:
                        times |= in_turns(running, chosen, size, options.repeats)
                if whole and not index:
                    frames, threads = options.frames, options.threads
                    times |= commands_in_turns(ways, whole, size, frames, threads, options.repeats)
            found += (made := rows(times, ways, case))
            found += (sums := of_a_frame(found, ways, case))
            show(made + sums)
            if options.json:
                facts = {"processor": processor(), "threads": options.threads, "steps": options.steps}
                options.json.write_text(json.dumps({**facts, "rows": found}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
