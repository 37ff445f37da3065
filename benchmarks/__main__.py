"""Where the time goes, stage by stage, beside what the machine can do at most.

    python -m benchmarks [STAGE ...] [--size 384 1080] [--threads 1 2] [--neighbours 0 1] [--json FILE]
    python -m benchmarks start video --frames 30 300

All stages take turns, so that other work on the machine meets all alike; medians and quartiles are given. ``unet`` is
one evaluation, ``paint`` includes ``decode``, ``clip`` is ``guide`` to ``archive``. ``start`` is the first frame of the
command, in a process of its own; ``video`` the command's whole work. Operations are counted, not estimated. Beside
other work the time of the CPU says more than that of the clock.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mcdm_core.config import PRESETS

from .machine import begin_peak, neighbours, peak_gflops, peak_mib, processor, synchronize
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
OTHERS = ("start", "video")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def measure(chosen: list[Stage], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Time stages in turns; a row a stage."""
    times: dict[str, list[float]] = {stage.name: [] for stage in chosen}
    processor_times: dict[str, list[float]] = {stage.name: [] for stage in chosen}
    peaks: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for stage in chosen:
            begin_peak()
            with torch.no_grad():
                synchronize(device)
                began, worked = time.perf_counter(), time.process_time()
                stage.call()
                synchronize(device)
                taken, used = time.perf_counter() - began, time.process_time() - worked
            if repeat:  # the first time kernels are chosen
                times[stage.name].append(taken)
                processor_times[stage.name].append(used)
            peaks[stage.name] = max(peaks.get(stage.name, 0.0), peak_mib())
    rows = []
    for stage in chosen:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            stage.call()
        milliseconds = sorted(1000 * value / stage.frames for value in times[stage.name])
        low, _, high = statistics.quantiles(milliseconds, n=4, method="inclusive") if repeats > 1 else milliseconds * 3
        rows.append(
            {
                "stage": stage.name,
                "ms": statistics.median(milliseconds),
                "quartiles": [low, high],
                "least": milliseconds[0],
                "cpu_ms": 1000 * statistics.median(processor_times[stage.name]) / stage.frames,
                "gflop": counter.get_total_flops() / stage.frames / 1e9,
                "peak_mib": peaks[stage.name],
            }
        )
    return rows


def show(rows: list[dict[str, Any]], peak: float) -> None:
    """A table of the stages."""
    names = f"{'stage':8} {'ms a frame':>10} {'quartiles':>19} {'of the CPU':>10} {'Gflop':>7} {'of peak':>8}"
    print(f"{names} {'peak MiB':>9}")
    for row in rows:
        low, high = row["quartiles"]
        share = row["gflop"] / row["ms"] * 1000 / peak
        times = f"{row['ms']:10.2f} {f'{low:.2f} to {high:.2f}':>19} {row['cpu_ms']:10.2f}"
        print(f"{row['stage']:8} {times} {row['gflop']:7.3f} {share:8.1%} {row['peak_mib']:9.0f}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    made.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES + OTHERS)} (default: all stages)")
    made.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    made.add_argument("--weights", type=Path, help="weight file or training folder")
    made.add_argument("--portrait", type=Path, help="picture with a face (default: the sample person)")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=DTYPES, default="float32", help="of the pictures' products")
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
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    names = [name for name in options.stages if name in STAGES] or ([] if options.stages else list(STAGES))
    facts = {"processor": processor(), "python": platform.python_version(), "torch": torch.__version__}
    print(", ".join(facts.values()))
    results: list[dict[str, Any]] = []
    for size in options.size:
        chosen: list[Stage] = []
        if names:
            inputs = prepare(options.preset, options.weights, device, size, options.portrait)
            inputs.pipe.model.picture_format = dtype
            chosen = [stage for stage in stages(inputs) if stage.name in names]
        for threads in options.threads:
            torch.set_num_threads(threads)
            peak = peak_gflops(device, dtype)
            for others in options.neighbours:
                case = {"size": size, "threads": threads, "neighbours": others, "peak_gflops": peak}
                print(f"\n{size} px, {threads} threads, {others} neighbours; peak of this machine {peak:.0f} GFLOP/s")
                with neighbours(others):
                    if chosen:
                        rows = measure(chosen, options.repeats, device)
                        show(rows, peak)
                        results += [{**case, **row} for row in rows]
                    if "start" in options.stages:
                        results.append({**case, **first_frame(options, size, threads)})
                    if "video" in options.stages:
                        results += [{**case, **whole_video(options, size, threads, n)} for n in options.frames]
    if options.json:
        found = {**facts, "preset": options.preset, "device": str(device), "dtype": options.dtype, "results": results}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
