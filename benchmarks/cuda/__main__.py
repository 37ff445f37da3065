"""A GPU's part in one command: speed, memory and equality of both presets, each block on its own.

    python -m benchmarks.cuda [BLOCK ...] [--seconds 540] [--json FILE]
    python -m benchmarks.cuda --device cpu --small      # tries the script where there is no GPU

``tiny`` has its weights. ``base`` has none: with random ones it costs what trained ones cost. A block that fails stops
no other, and what is found is printed and written at once. Without a time to spare the last blocks are left out. All of
it is meant for one loan of a GPU of 15 minutes: the tests of ``tests/pipeline/test_cuda.py`` and of the kernels come
first, and the whole keeps to its limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ..machine import peak_gflops
from .clips import CASES, clip_times
from .compiled import compiled_blocks, graphs, kernels
from .evaluations import Operations, evaluations, stages
from .host_waits import host_waits
from .models import GUIDANCE, base_video, tiny_video
from .report import Report
from .tiny import tiny_equality

BLOCKS = ("tests", "tiny", "waits", "base", "kernels", "graphs", "float16", "compile")
_LEAST = {"kernels": 10.0, "graphs": 10.0, "float16": 4.0, "compile": 150.0}
"""Seconds that a block needs at least."""


def main() -> int:
    """Run the blocks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("blocks", nargs="*", metavar="BLOCK", help=f"{', '.join(BLOCKS)} (default: all)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="base in miniature, to try the script")
    parser.add_argument("--seconds", type=float, default=540, help="limit that later blocks keep to")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wrong = [name for name in options.blocks if name not in BLOCKS]
    if wrong:
        print(f"There is no block {wrong[0]!r}; choose of {', '.join(BLOCKS)}.", file=sys.stderr)
        return 2
    report, device = Report(options.json, options.seconds), torch.device(options.device)
    wanted = options.blocks or BLOCKS
    operations = Operations(1.0)

    def peaks(report: Report) -> None:
        found = {str(dtype): peak_gflops(device, dtype, 0.4) / 1000 for dtype in (torch.bfloat16, torch.float32)}
        operations.peak_tflops = found[str(torch.bfloat16)]
        name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        told = ", ".join(f"{dtype} {peak:.1f} TFLOP/s" for dtype, peak in found.items())
        report.add("machine", f"{name}, torch {torch.__version__}, peaks: {told}", name=name, tflops=found)

    def tiny_waits(report: Report) -> None:
        host_waits(report, tiny_video(device, 4.0), "tiny", 2)

    good = report.run("machine", peaks)
    if "tests" in wanted:
        good &= report.run("tests of what a GPU must do", tests)
    if "tiny" in wanted:
        good &= report.run("tiny", partial(tiny_equality, device=device, seconds=1.0 if options.small else 8.0))
    if "waits" in wanted:
        good &= report.run("waits of tiny", tiny_waits)
    if {"waits", "base", "kernels", "graphs", "float16", "compile"}.isdisjoint(wanted):
        return 0 if good else 1
    video = base_video(device, 4.0, options.small)
    report.run("stages of base", partial(stages, video=video))

    def to(dtype: torch.dtype) -> None:
        video.pipe.model.unet.to(dtype)
        video.pipe.model.vae.to(dtype)

    def in_float32(report: Report) -> None:
        evaluations(report, video, operations, torch.bfloat16, "float32 weights, bfloat16 products")
        clip_times(report, video, torch.bfloat16, CASES[:1], "float32 weights")

    def in_bfloat16(report: Report) -> None:
        to(torch.bfloat16)
        evaluations(report, video, operations, torch.bfloat16, "bfloat16")
        clip_times(report, video, torch.bfloat16, CASES, "bfloat16 weights")

    def base_waits(report: Report) -> None:
        host_waits(report, video, "base", 4)

    def in_float16(report: Report) -> None:
        to(torch.float16)
        evaluations(report, video, operations, torch.float16, "float16")
        clip_times(report, video, torch.float16, ((4, 1.0, 3), (4, GUIDANCE, 3)), "float16 weights")

    def by_kernels(report: Report) -> None:
        to(torch.bfloat16)
        kernels(report, video, operations)

    def by_graphs(report: Report) -> None:
        to(torch.bfloat16)
        graphs(report, video, torch.bfloat16)

    def compiling(report: Report) -> None:
        to(torch.bfloat16)
        compiled_blocks(report, video, operations)

    blocks: list[tuple[str, str, Callable[[Report], None]]] = [
        ("base", "base, float32 weights", in_float32),
        ("base", "base, bfloat16 weights", in_bfloat16),
        ("waits", "waits of base", base_waits),
        ("kernels", "base, Triton's kernels", by_kernels),
        ("graphs", "base, CUDA graphs", by_graphs),
        ("float16", "base, float16 weights", in_float16),
        ("compile", "base, compiled", compiling),
    ]
    for block, name, call in blocks:
        if block not in wanted:
            continue
        if report.left < _LEAST.get(block, 0.0):
            print(f"{name}: left out, {report.left:.0f} s left", flush=True)
            continue
        good &= report.run(name, call)
    tell_goal(report)
    return 0 if good else 1


GOAL = 25.0
"""Frames a second of ``base`` in four steps that are wanted."""


def tell_goal(report: Report) -> None:
    """The best that four steps reached, with and without guidance, beside what is wanted."""
    for guided in (False, True):
        rows = [row for row in report.found.get("clips", []) if row.get("steps") == 4 and row["finite"]]
        rows = [row for row in rows if (row["guidance"] != 1.0) == guided]
        if rows:
            best = max(rows, key=lambda row: row["fps"])
            told = f"{best['kept']}, {best['dtype']}: {best['fps']:.1f} of {GOAL:g} frames/s wanted"
            report.add("goal", f"4 steps{' with guidance' if guided else ''}, {told}", guided=guided, fps=best["fps"])
    report.write()


def tests(report: Report) -> None:
    """The tests that a GPU is needed for, and the kernels against the plain layer on it."""
    files = ["tests/pipeline/test_cuda.py", "tests/models/layers/test_memory_kernels.py"]
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-q", *files]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = run.stdout.strip().splitlines()
    report.add("tests", "; ".join(lines[-5:]) or run.stderr[-500:], output=run.stdout[-8000:])
    if run.returncode not in (0, 5):
        raise RuntimeError(f"the tests failed:\n{run.stdout[-3000:]}")


if __name__ == "__main__":
    sys.exit(main())
