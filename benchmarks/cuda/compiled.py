"""``torch.compile`` of the blocks that the UNet repeats: what it costs once, and what it gains."""

from __future__ import annotations

import time

import torch

from mcdm_core.models.layers.residual_block import ResidualBlock
from mcdm_core.models.transformer_block import MCDMTransformerBlock

from .evaluations import Evaluation, Operations, channels_last
from .models import Video
from .report import Report


def compiled_blocks(report: Report, video: Video, operations: Operations) -> None:
    """Transformer and residual blocks compiled, shapes fixed. The last block: it takes its time."""
    device, model = video.pipe.device, video.pipe.model
    evaluation = Evaluation(video, next(model.unet.parameters()).dtype)
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 4096
    for module in model.unet.modules():
        if isinstance(module, (MCDMTransformerBlock, ResidualBlock)):
            module.compile(dynamic=False)
    with channels_last(model.unet):
        began = time.perf_counter()
        evaluation()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        report.add("compiled", f"compiling took {seconds:.1f} s", compile_s=seconds)
        frames = video.pipe.config.clip_frames
        operations.tell(report, "UNet, channels last, compiled blocks", evaluation, device, frames)
