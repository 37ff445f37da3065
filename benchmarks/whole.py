"""The command as a user runs it, in a process of its own: its first frame, and whole videos."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mcdm_core.media.audio import load_audio
from mcdm_core.samples import default_voice

_FPS = 25


class Variant(Protocol):
    """Number of threads and number format."""

    @property
    def threads(self) -> int: ...
    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True)
class Run:
    """Seconds to the first clip on the disk and to the end, of the clock and of the CPU, and what was printed last."""

    first: float
    first_cpu: float
    whole: float
    whole_cpu: float
    line: str


@dataclass(frozen=True)
class Command:
    """``generate`` of so many frames; ``checkout``: a folder whose code is run instead of this one's."""

    size: int
    frames: int
    threads: int
    dtype: str
    weights: Path | None = None
    portrait: Path | None = None
    preset: str = "tiny"
    device: str = "cpu"
    steps: int | None = None
    checkout: Path | None = None


def _processor_seconds(process: int) -> float:
    """Time that a process has computed, on all cores (Linux; elsewhere not a number)."""
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return math.nan


def run_command(asked: Command) -> Run:
    """Run it in a process of its own.

    Raises:
        RuntimeError: if it fails.
    """
    voice = load_audio(default_voice())
    wanted = round(asked.frames / _FPS * voice.sample_rate)
    samples = np.resize(voice.waveform.mean(0).numpy(), wanted)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked.threads != os.cpu_count():  # as a user starts it, it chooses by itself
        environment["OMP_NUM_THREADS"] = str(asked.threads)
    if asked.checkout:
        environment["PYTHONPATH"] = str(asked.checkout)
    with tempfile.TemporaryDirectory() as folder:
        sound, output = Path(folder) / "voice.wav", Path(folder) / "video.mp4"
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(voice.sample_rate)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        command = [sys.executable, "-m", "mcdm_core", "generate", "--audio", str(sound), "--output", str(output)]
        command += ["--preset", asked.preset, "--device", asked.device, "--max-size", str(asked.size)]
        # The oldest checkouts know float32 alone, and no option for it.
        known = asked.checkout is None or (asked.checkout / "mcdm_core/pipeline/run/number_format.py").is_file()
        command += ["--dtype", asked.dtype] if known and asked.dtype in ("float32", "bfloat16") else []
        for option in ("weights", "portrait", "steps"):
            value = getattr(asked, option)
            command += [f"--{option}", str(value)] if value is not None else []
        began, worked = time.perf_counter(), _of_children()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=asked.checkout
        )
        first, first_cpu = 0.0, math.nan
        while process.poll() is None:
            if not first and any(path.stat().st_size for path in Path(folder).rglob("*.mp4")):
                first, first_cpu = time.perf_counter() - began, _processor_seconds(process.pid)
            time.sleep(0.02)
        whole = time.perf_counter() - began
        shown, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the command failed: {errors.strip()}")
    return Run(first or whole, first_cpu, whole, _of_children() - worked, shown.strip().splitlines()[-1])


def _of_children() -> float:
    """Time that all ended children have computed."""
    used = os.times()
    return used.children_user + used.children_system


def _run(options: argparse.Namespace, size: int, variant: Variant, frames: int) -> Run:
    own = {name: getattr(options, name) for name in ("weights", "portrait", "preset", "device")}
    return run_command(Command(size, frames, variant.threads, variant.dtype, **own))


def first_frame(options: argparse.Namespace, size: int, variant: Variant, frames: int = 16) -> dict[str, Any]:
    """Seconds from the command to the first clip of a short video; beside other work the CPU's time says more."""
    runs = sorted((_run(options, size, variant, frames) for _ in range(options.repeats)), key=lambda run: run.first)
    run = runs[len(runs) // 2]
    used = sorted(run.first_cpu for run in runs)
    print(
        f"start: first frames after {run.first:.2f} s ({run.first_cpu:.2f} s of the CPU; {used[0]:.2f} to "
        f"{used[-1]:.2f}), {frames} frames after {run.whole:.2f} s",
        flush=True,
    )
    return {"stage": "start", "first_s": run.first, "first_cpu_s": used, "whole_s": run.whole, "frames": frames}


def whole_video(options: argparse.Namespace, size: int, variant: Variant, frames: int) -> dict[str, Any]:
    """Frames a second of a whole video, and the most memory the command held."""
    run = _run(options, size, variant, frames)
    whole, line = run.whole, run.line
    told = re.search(r"([\d.]+) frames a second, peak memory (\d+) MiB", line)
    if told is None:
        raise RuntimeError(f"the command ended with an unknown line: {line}")
    speed, memory = told.groups()
    print(f"video: {frames} frames in {whole:.1f} s ({speed} a second once started), peak {memory} MiB", flush=True)
    return {"stage": "video", "frames": frames, "whole_s": whole, "fps": float(speed), "peak_mib": float(memory)}
