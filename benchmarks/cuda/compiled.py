"""Ways of computing ``base``'s UNet on a GPU, each against the plain one: kernels, CUDA graphs, compiled blocks."""

from __future__ import annotations

import time
from functools import partial

import torch

from mcdm_core.pipeline.run.gpu import Replayed, choose_kernels, compile_blocks, plain_blocks, prepare

from ..machine import synchronize
from .clips import clip_times
from .evaluations import Evaluation, Operations, channels_last
from .models import Video
from .report import Report

CASES = ((4, 1.0, 4),)
"""Steps, guidance and clips of what the way of computing is judged by."""


def kernels(report: Report, video: Video, operations: Operations) -> None:
    """Layer 4's Triton kernels against the plain layer, block by block, and the UNet with those that are faster."""
    unet, device = video.pipe.model.unet, video.pipe.device
    evaluation = Evaluation(video, next(unet.parameters()).dtype)
    assert evaluation.memory is not None
    gains = choose_kernels(unet, evaluation.memory)
    told = ", ".join(f"{name} {gain:.2f}" for name, gain in gains.items()) or "Triton is not installed"
    report.add("kernels", f"times faster by kernels (0: cannot be used): {told}", gains=gains)
    operations.tell(report, "UNet, kernels where they are faster", evaluation, device, video.pipe.config.clip_frames)
    for block in unet.transformer_blocks():
        block.temporal.kernels = False


def graphs(report: Report, video: Video, dtype: torch.dtype) -> None:
    """Whole clips with the UNet as CUDA graphs, or as it is where there are none."""
    pipe = video.pipe
    if pipe.device.type == "cuda":
        pipe.clips.network = prepare(pipe.model, "graphs")
    else:  # the script is tried: the fall-back is what can run here
        pipe.clips.network = Replayed(pipe.model.unet)
    try:
        clip_times(report, video, dtype, CASES, "CUDA graphs, kernels where faster")
    finally:
        pipe.clips.network = None
        for block in pipe.model.unet.transformer_blocks():
            block.temporal.kernels = False


def compiled_blocks(report: Report, video: Video, operations: Operations) -> None:
    """Transformer and residual blocks compiled, shapes fixed. The last block: it takes its time."""
    device, model = video.pipe.device, video.pipe.model
    evaluation = Evaluation(video, next(model.unet.parameters()).dtype)
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 4096
    compile_blocks(model.unet)
    try:
        with channels_last(model.unet):
            began = time.perf_counter()
            evaluation()
            synchronize(device)
            seconds = time.perf_counter() - began
            report.add("compiled", f"compiling took {seconds:.1f} s", compile_s=seconds)
            tell = partial(operations.tell, report, device=device, frames=video.pipe.config.clip_frames)
            tell("UNet, channels last, compiled blocks", evaluation)
    finally:
        plain_blocks(model.unet)
