"""``tiny`` on a GPU: frames a second, and how far its pictures lie from the CPU's, of the same seed."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..machine import synchronize
from .models import Video, tiny_video
from .report import Report

_CPU = torch.device("cpu")


def tiny_equality(report: Report, device: torch.device, seconds: float) -> None:
    """The CPU's pictures in float32 against those of the device in float32, bfloat16 and float16 (GPUs)."""
    began = time.perf_counter()
    video = tiny_video(_CPU, seconds)
    truth, fps, _ = _frames(video)
    report.add(
        "tiny", f"CPU: {fps:.1f} frames/s ({time.perf_counter() - began:.1f} s to prepare)", device="cpu", fps=fps
    )
    began = time.perf_counter()
    video = tiny_video(device, seconds)
    prepared = time.perf_counter() - began
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    for dtype in dtypes if device.type == "cuda" else dtypes[:2]:
        video.pipe.model.picture_format = dtype
        _, _, first = _frames(video)
        made, fps, _ = _frames(video)
        apart = 255 * (made - truth).abs()
        values = {"mean": float(apart.mean()), "most": float(apart.max())}
        report.add(
            "tiny",
            f"{device}, {dtype}: {fps:.1f} frames/s, first clip {first:.3f} s ({prepared:.1f} s to prepare); "
            f"apart from the CPU's by {values['mean']:.4f} of 255 on average, {values['most']:.2f} at most",
            device=str(device),
            dtype=dtype,
            fps=fps,
            first_clip_s=first,
            apart=values,
        )


def _frames(video: Video) -> tuple[Tensor, float, float]:
    """Crops ``[f, 3, h, w]`` on the CPU, frames a second, and seconds to the first clip."""
    synchronize(video.pipe.device)
    began, first, made = time.perf_counter(), 0.0, []
    for clip in video.pipe.generate(video.reference, video.audio, seed=0):
        made.append(clip.frames)
        first = first or time.perf_counter() - began
    frames = torch.cat(made)
    return frames, len(frames) / (time.perf_counter() - began), first
