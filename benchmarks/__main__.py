"""Where the time goes, stage by stage, beside what the machine can do at most.

    python -m benchmarks [STAGE ...] [--size 384 1080] [--threads 1 2] [--dtype float32 bfloat16]
                         [--neighbours 0 1] [--json FILE]
    python -m benchmarks start video --frames 30 300

All stages take turns, each in every format and number of threads, so that other work on the machine meets all alike.
Medians and quartiles are given. ``unet`` is one evaluation, ``paint`` includes ``decode``, ``clip`` is ``guide`` to
``archive``. ``start`` is the first frame of the command, in a process of its own, ``server`` that of a process which
has loaded the model; ``video`` the command's whole work. Operations and bytes are counted, not estimated: the bytes
that each operation reads and writes by itself. Beside other work the time of the CPU says more than that of the clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mcdm_core.config import PRESETS
from mcdm_core.model import MCDMModel

from .counting import counted
from .machine import begin_peak, neighbours, peak_gflops, peak_mib, processor, synchronize
from .server import first_in_a_server
from .stages import Stage, prepare, stages
from .whole import first_frame, whole_video

STAGES = (
    "read",
    "face",
    "audio",
    "prior",
    "motion",
    "guide",
    "unet",
    "decode",
    "paint",
    "archive",
    "clip",
    "finish",
    "encode",
)
OTHERS = ("start", "server", "video")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Variant:
    """A way of computing that takes turns with others, and the machine's peak in it."""

    threads: int
    dtype: str
    peak: float

    def begin(self, model: MCDMModel) -> None:
        """Compute so from here on."""
        torch.set_num_threads(self.threads)
        model.picture_format = DTYPES[self.dtype]


def measure(
    chosen: list[Stage], repeats: int, device: torch.device, variants: Sequence[Variant], model: MCDMModel
) -> list[dict[str, Any]]:
    """Time stages in turns, each in every variant; a row a stage and variant."""
    times: dict[tuple[str, Variant], list[tuple[float, float]]] = {}
    peaks: dict[tuple[str, Variant], float] = {}
    for repeat in range(repeats + 1):
        for stage, variant in itertools.product(chosen, variants):
            variant.begin(model)
            key = stage.name, variant
            begin_peak()
            with torch.no_grad():
                synchronize(device)
                began, worked = time.perf_counter(), time.process_time()
                stage.call()
                synchronize(device)
                taken, used = time.perf_counter() - began, time.process_time() - worked
            if repeat:  # the first time kernels are chosen
                times.setdefault(key, []).append((taken, used))
            peaks[key] = max(peaks.get(key, 0.0), peak_mib())
    rows = []
    for stage in chosen:
        counts = counted(stage.call)
        for variant in variants:
            pairs = times[stage.name, variant]
            clock, used = (
                sorted(1000 * value / stage.frames for value in column) for column in zip(*pairs, strict=True)
            )
            low, _, high = statistics.quantiles(clock, n=4, method="inclusive") if repeats > 1 else clock * 3
            spent = statistics.median(used)
            # One thread is judged by its own time, as the peak is.
            judged = spent if variant.threads == 1 and device.type == "cpu" else clock[0]
            gflop = counts.operations / stage.frames / 1e9
            rows.append(
                {
                    "stage": stage.name,
                    "threads": variant.threads,
                    "dtype": variant.dtype,
                    "peak_gflops": variant.peak,
                    "ms": statistics.median(clock),
                    "quartiles": [low, high],
                    "least": clock[0],
                    "cpu_ms": spent,
                    "cpu_least": used[0],
                    "gflop": gflop,
                    "moved_mb": counts.moved / stage.frames / 1e6,
                    "share_of_peak": gflop / max(judged, 1e-9) * 1000 / variant.peak,
                    "peak_mib": peaks[stage.name, variant],
                }
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A table of the stages."""
    names = f"{'stage':8} {'threads':>7} {'format':9} {'ms a frame':>10} {'quartiles':>19} {'of the CPU':>10}"
    print(f"{names} {'Gflop':>7} {'MB moved':>9} {'of peak':>8} {'peak MiB':>9}")
    for row in rows:
        low, high = row["quartiles"]
        way = f"{row['stage']:8} {row['threads']:7} {row['dtype']:9}"
        times = f"{row['ms']:10.2f} {f'{low:.2f} to {high:.2f}':>19} {row['cpu_ms']:10.2f}"
        counts = f"{row['gflop']:7.3f} {row['moved_mb']:9.1f} {row['share_of_peak']:8.1%}"
        print(f"{way} {times} {counts} {row['peak_mib']:9.0f}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    made.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES + OTHERS)} (default: all stages)")
    made.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    made.add_argument("--weights", type=Path, help="weight file or training folder")
    made.add_argument("--portrait", type=Path, help="picture with a face (default: the sample person)")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"], help="of the pictures' products")
    made.add_argument("--small", action="store_true", help="base and small in miniature, to be timed on a CPU")
    made.add_argument("--size", type=int, nargs="+", default=[384], help="longer side of the video in pixels")
    made.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    made.add_argument("--neighbours", type=int, nargs="+", default=[0], help="busy processes beside it")
    made.add_argument("--frames", type=int, nargs="+", default=[30], help="lengths of `video`")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--json", type=Path, help="write everything there as well")
    return made


def main() -> int:
    """Measure, print tables, write JSON."""
    options = parser().parse_args()
    wrong = [name for name in options.stages if name not in STAGES + OTHERS]
    if wrong:
        print(f"There is no stage {wrong[0]!r}; choose of {', '.join(STAGES + OTHERS)}.", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    names = [name for name in options.stages if name in STAGES] or ([] if options.stages else list(STAGES))
    facts = {"processor": processor(), "python": platform.python_version(), "torch": torch.__version__}
    print(", ".join(facts.values()))
    results: list[dict[str, Any]] = []
    variants = []
    for threads, dtype in itertools.product(options.threads, options.dtype):
        torch.set_num_threads(threads)
        variants.append(Variant(threads, dtype, peak_gflops(device, DTYPES[dtype])))
        print(f"peak of this machine with {threads} threads in {dtype}: {variants[-1].peak:.0f} GFLOP/s")
    for size in options.size:
        inputs = prepare(options.preset, options.weights, device, size, options.portrait, options.small)
        chosen = [stage for stage in stages(inputs) if stage.name in names] if names else []
        for others in options.neighbours:
            case = {"size": size, "neighbours": others}
            print(f"\n{size} px, {others} neighbours")
            with neighbours(others):
                if chosen:
                    rows = measure(chosen, options.repeats, device, variants, inputs.pipe.model)
                    show(rows)
                    results += [{**case, **row} for row in rows]
                for variant in variants:
                    way = {**case, "threads": variant.threads, "dtype": variant.dtype, "peak_gflops": variant.peak}
                    if "server" in options.stages:
                        variant.begin(inputs.pipe.model)
                        results.append({**way, **first_in_a_server(inputs, options.repeats)})
                    if "start" in options.stages:
                        results.append({**way, **first_frame(options, size, variant)})
                    if "video" in options.stages:
                        results += [{**way, **whole_video(options, size, variant, n)} for n in options.frames]
    if options.json:
        found = {**facts, "preset": options.preset, "device": str(device), "results": results}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
