"""Whole clips of ``base``, as the pipeline makes them: sound to motion to pictures on the CPU, memory carried."""

from __future__ import annotations

import math
import statistics
import time
from itertools import islice

import torch

from ..machine import begin_device_peak, device_peak_mib, synchronize
from .models import GUIDANCE, Video
from .report import Report

# (denoising steps, guidance, clips), the most telling first.
CASES = ((4, 1.0, 4), (4, GUIDANCE, 3), (1, 1.0, 4), (8, 1.0, 3), (25, GUIDANCE, 2), (25, 1.0, 2))
_MARGIN = 1.2


def clip_times(
    report: Report, video: Video, dtype: torch.dtype, cases: tuple[tuple[int, float, int], ...], kept: str
) -> None:
    """Seconds of the first clip and of those after it, frames a second, peak memory.

    Args:
        dtype: of the pictures' products; kept: how the weights are kept, for the table.
    """
    pipe, device = video.pipe, video.pipe.device
    pipe.model.picture_format = dtype
    step = math.inf
    for steps, guidance, count in cases:
        evaluations = steps * (1 if guidance == 1.0 else 2)
        if math.inf > step * evaluations * count * _MARGIN > report.left:
            report.add("clips", f"{steps} steps, guidance {guidance}: left out, no time", left_out=[steps, guidance])
            continue
        begin_device_peak(device)
        times, finite = [], True
        synchronize(device)
        began = time.perf_counter()
        made = pipe.generate(video.reference, video.audio, seed=0, steps=steps, guidance=guidance)
        for clip in islice(made, count):
            synchronize(device)
            times.append(time.perf_counter() - began)
            finite = finite and bool(clip.frames.isfinite().all())
            began = time.perf_counter()
        steady = statistics.median(times[1:])
        step = min(step, steady / evaluations)
        peak = device_peak_mib(device)
        fps = pipe.config.clip_frames / steady
        report.add(
            "clips",
            f"{kept}, {dtype}, {steps:2} steps, guidance {guidance}: first clip {times[0]:.3f} s, then {steady:.3f} s, "
            f"{fps:.1f} frames/s; peak {peak:.0f} MiB{'' if finite else '; not finite'}",
            kept=kept,
            dtype=dtype,
            steps=steps,
            guidance=guidance,
            seconds=times,
            fps=fps,
            peak_mib=peak,
            finite=finite,
        )
