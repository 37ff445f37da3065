"""One evaluation of ``base``'s networks: counted operations, share of the measured peak, and ways of computing it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.pipeline.run.gpu import captured

from ..machine import MEBIBYTE, begin_device_peak, device_peak_mib, synchronize
from .models import Video
from .report import Report

_REPEATS = 5


class Evaluation:
    """The UNet on one clip of random latents, with memory: what a denoising step without guidance costs."""

    def __init__(self, video: Video, dtype: torch.dtype) -> None:
        pipe, config = video.pipe, video.pipe.config
        self.unet: DenoisingUNet = pipe.model.unet
        device, frames, size, codec = pipe.device, config.clip_frames, config.unet.latent_size, config.motion_codec
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        prior = config.archived_clip_prior

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, device=device, dtype=dtype)

        self.x = noise(1, frames, config.unet.latent_channels, size, size)
        self.time = torch.full((1,), 500.0, device=device)
        self.rows = noise(1, frames, prior.num_queries, prior.width)
        self.motion = noise(1, frames, tokens, codec.motion_dim)
        self.memory: dict[str, Tensor] | None = None
        self.memory = self()[1]

    def __call__(self) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            return self.unet(self.x, self.time, self.rows, self.motion, self.memory)


@contextmanager
def channels_last(unet: DenoisingUNet) -> Iterator[None]:
    """Convolutions with the channels innermost, as tensor cores take them."""

    def enter(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])

    unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] the overload is missing
    hook = unet.conv_in.register_forward_pre_hook(enter)
    try:
        yield
    finally:
        hook.remove()


def milliseconds(call: Callable[[], object], device: torch.device, repeats: int = _REPEATS) -> list[float]:
    """Times of single calls, after one that chooses the kernels."""
    call()
    times = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - began))
    return times


class Operations:
    """Operations of one call, counted once, and the peak rate that they are held against."""

    def __init__(self, peak_tflops: float) -> None:
        self.peak_tflops = peak_tflops

    def tell(self, report: Report, name: str, call: Callable[[], object], device: torch.device, frames: int) -> None:
        """A row: milliseconds, operations a frame, share of the peak, memory."""
        begin_device_peak(device)
        with torch.no_grad():
            times = milliseconds(call, device)
            with FlopCounterMode(display=False) as counter:
                call()
        median = statistics.median(times)
        tflop = counter.get_total_flops() / 1e12
        share = tflop / (median / 1000) / self.peak_tflops
        peak = device_peak_mib(device)
        report.add(
            "evaluations",
            f"{name}: {median:.2f} ms ({min(times):.2f} to {max(times):.2f}), {1000 * tflop / frames:.1f} Gflop a "
            f"frame, {share:.1%} of the peak, {peak:.0f} MiB",
            name=name,
            ms=times,
            tflop=tflop,
            frames=frames,
            share_of_peak=share,
            peak_mib=peak,
        )


def evaluations(report: Report, video: Video, operations: Operations, dtype: torch.dtype, kept: str) -> None:
    """The UNet and the decoder in one format, as they are and with other layouts; ends with channels-last weights."""
    pipe, model, device = video.pipe, video.pipe.model, video.pipe.device
    frames, half = pipe.config.clip_frames, next(model.unet.parameters()).dtype
    wrapped = torch.autocast(device.type, dtype) if half != dtype else nullcontext()
    with wrapped:
        evaluation = Evaluation(video, dtype)
    latents = torch.randn_like(evaluation.x[0])

    def evaluate() -> None:
        with wrapped:
            evaluation()

    def decode() -> None:
        with wrapped:
            model.vae.decode(latents)

    operations.tell(report, f"UNet, {kept}", evaluate, device, frames)
    operations.tell(report, f"decoder, {kept}", decode, device, frames)
    if half != dtype:
        return
    model.unet.set_temporal_attention("favor")
    operations.tell(report, f"UNet, {kept}, FAVOR+", evaluate, device, frames)
    model.unet.set_temporal_attention("exact")
    with channels_last(model.unet):
        operations.tell(report, f"UNet, {kept}, channels last", evaluate, device, frames)
        if device.type == "cuda":
            operations.tell(report, f"UNet, {kept}, channels last, CUDA graph", captured(evaluate), device, frames)
    model.vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    latents = latents.contiguous(memory_format=torch.channels_last)
    operations.tell(report, f"decoder, {kept}, channels last", decode, device, frames)


def stages(report: Report, video: Video) -> None:
    """What a clip of ``base`` costs beside the UNet: motion, archive; and what the weights take."""
    pipe, device = video.pipe, video.pipe.device
    frames = pipe.config.clip_frames
    memory = pipe.start_memory(video.reference)
    sound = video.audio.tokens[:frames]
    tokens, _ = pipe.motion.predict_clip(video.reference, sound, memory)
    latents = torch.randn_like(video.reference.latents)[None].expand(-1, frames, -1, -1, -1).to(device)
    calls: dict[str, Callable[[], object]] = {
        "motion prior, 25 steps": lambda: pipe.motion.predict_clip(video.reference, sound, memory),
        "motion decoder": lambda: pipe.motion.decode(video.reference, tokens, 25.0),
        "archive": lambda: pipe.model.archived_clip_prior(memory.reference_map.to(device), latents),
    }
    for name, call in calls.items():
        with torch.no_grad():
            times = milliseconds(call, device, 3)
        report.add("stages", f"{name}: {statistics.median(times):.1f} ms a clip", name=name, ms=times)
    sizes = {
        name: sum(value.nbytes for value in child.state_dict().values()) / MEBIBYTE
        for name, child in pipe.model.named_children()
    }
    told = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    report.add("stages", f"weights in MiB: {told}; together {sum(sizes.values()):.0f}", weights_mib=sizes)
