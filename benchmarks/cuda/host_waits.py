"""Where the host waits for the GPU inside a clip, and how much of a clip's time the GPU computes."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ..machine import synchronize
from .models import Video
from .report import Report

_CALLS = ("Synchronize", "cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpy", "cudaMalloc", "cudaGraphLaunch")


def host_waits(report: Report, video: Video, name: str, steps: int) -> None:
    """Synchronisations of the third clip by the line of Python that asks for them, and a profile of the fourth."""
    device = video.pipe.device
    clips = video.pipe.generate(video.reference, video.audio, seed=0, steps=steps, guidance=1.0)
    for _ in islice(clips, 2):
        pass
    if device.type == "cuda":
        synchronize(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                next(clips)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{'/'.join(Path(warning.filename).parts[-2:])}:{warning.lineno}"
            for warning in caught
            if "synchronizing" in str(warning.message)
        )
        report.add("waits", f"{name}: {sum(places.values())} synchronisations in a clip", name=name, places=places)
        for place, count in places.most_common(20):
            print(f"    {count:4} {place}", flush=True)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    synchronize(device)
    began = time.perf_counter()
    with profile(activities=activities) as trace:
        inner = time.perf_counter()
        next(clips)
        synchronize(device)
        taken = time.perf_counter() - inner
    averages = trace.key_averages()
    calls = {row.key: row.count for row in averages if any(word in row.key for word in _CALLS)}
    busy = sum(row.self_device_time_total for row in averages) / 1e6
    kernels = sorted(averages, key=lambda row: row.self_device_time_total, reverse=True)[:12]
    report.add(
        "waits",
        f"{name}: a clip of {taken:.3f} s under the profiler, the GPU busy for {busy:.3f} s; {calls}",
        name=name,
        seconds=taken,
        gpu_busy_s=busy,
        calls=calls,
        kernels=[(row.key[:90], row.count, row.self_device_time_total / 1000) for row in kernels],
        profiler_s=time.perf_counter() - began,
    )
    for row in kernels:
        print(f"    {row.self_device_time_total / 1000:8.2f} ms {row.count:5} {row.key[:90]}", flush=True)
