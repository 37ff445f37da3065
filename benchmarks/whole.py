"""The command as a user runs it, in a process of its own: its first frame, and whole videos."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

from mcdm_core.media.audio import load_audio
from mcdm_core.samples import default_voice

_FPS = 25


def _run(options: argparse.Namespace, size: int, threads: int, frames: int) -> tuple[float, float, str]:
    """Seconds to the first clip on the disk and to the end, and what the command printed last."""
    voice = load_audio(default_voice())
    wanted = round(frames / _FPS * voice.sample_rate)
    samples = np.resize(voice.waveform.mean(0).numpy(), wanted)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads != os.cpu_count():  # as a user starts it, it chooses by itself
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        sound, output = Path(folder) / "voice.wav", Path(folder) / "video.mp4"
        with wave.open(str(sound), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(voice.sample_rate)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        command = [sys.executable, "-m", "mcdm_core", "generate", "--audio", str(sound), "--output", str(output)]
        command += ["--preset", options.preset, "--device", options.device, "--max-size", str(size)]
        command += ["--dtype", options.dtype] if options.dtype in ("float32", "bfloat16") else []
        if options.weights:
            command += ["--weights", str(options.weights)]
        if options.portrait:
            command += ["--portrait", str(options.portrait)]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        first = None
        while process.poll() is None:
            if first is None and any(path.stat().st_size for path in Path(folder).glob("video.part/*/*.mp4")):
                first = time.perf_counter() - began
            time.sleep(0.02)
        whole = time.perf_counter() - began
        shown, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the command failed: {errors.strip()}")
    return first or whole, whole, shown.strip().splitlines()[-1]


def first_frame(options: argparse.Namespace, size: int, threads: int, frames: int = 16) -> dict[str, Any]:
    """Seconds from the command to the first clip of a short video."""
    taken = sorted(_run(options, size, threads, frames)[:2] for _ in range(options.repeats))
    first, whole = taken[len(taken) // 2]
    print(f"start: first frames after {first:.2f} s, {frames} frames after {whole:.2f} s", flush=True)
    return {"stage": "start", "first_s": first, "whole_s": whole, "frames": frames}


def whole_video(options: argparse.Namespace, size: int, threads: int, frames: int) -> dict[str, Any]:
    """Frames a second of a whole video, and the most memory the command held."""
    _, whole, line = _run(options, size, threads, frames)
    told = re.search(r"([\d.]+) frames a second, peak memory (\d+) MiB", line)
    if told is None:
        raise RuntimeError(f"the command ended with an unknown line: {line}")
    speed, memory = told.groups()
    print(f"video: {frames} frames in {whole:.1f} s ({speed} a second once started), peak {memory} MiB", flush=True)
    return {"stage": "video", "frames": frames, "whole_s": whole, "fps": float(speed), "peak_mib": float(memory)}
