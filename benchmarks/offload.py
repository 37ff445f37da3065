"""``base``'s UNet with one layer's weights in memory at a time, run on the CPU: the peak, beside what was counted.

    python -m benchmarks.offload [--preset base] [--frames 2]

Random weights in bfloat16 lie in a file. Each layer reads its own when it is called, and drops them. The peak is that
of the memory which belongs to the process alone (Linux), so pages of the file do not count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mcdm_core.config import PRESETS
from mcdm_core.models.unet import DenoisingUNet

from .machine import MEBIBYTE

DTYPE = torch.bfloat16
LAYERS = nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm


def outline(preset: str) -> DenoisingUNet:
    """The UNet without values."""
    with torch.device("meta"):
        return DenoisingUNet(PRESETS[preset]).to(DTYPE).eval().requires_grad_(False)


def write_weights(preset: str, path: Path) -> int:
    """Random weights, 0.02 wide; returns their bytes."""
    unet = outline(preset)
    state = {name: 0.02 * torch.randn(value.shape, dtype=DTYPE) for name, value in unet.state_dict().items()}
    save_file(state, path)
    return sum(value.nbytes for value in state.values())


def read_when_called(unet: nn.Module, path: Path) -> None:
    """Let every layer of an outline read its weights when it is called, and drop them after it."""
    stored = safe_open(path, "pt")
    for name, layer in unet.named_modules():
        own = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
        kept = {key for key in own if f"{name}.{key}" in unet.state_dict()}
        if not own:
            continue
        if not isinstance(layer, LAYERS):
            # Small tables, which their owner reads without a call.
            for key, value in own.items():
                if key in kept:
                    _put(layer, key, stored.get_tensor(f"{name}.{key}"))
                elif value.is_meta:
                    _put(layer, key, 0.02 * torch.randn(value.shape, dtype=DTYPE))
            continue

        def read(layer: nn.Module, _: object, name: str = name, keys: tuple[str, ...] = tuple(own)) -> None:
            for key in keys:
                _put(layer, key, stored.get_tensor(f"{name}.{key}").clone())

        def drop(layer: nn.Module, _: object, __: object, outline: dict[str, Tensor] = own) -> None:
            for key, value in outline.items():
                _put(layer, key, value)

        layer.register_forward_pre_hook(read)
        layer.register_forward_hook(drop)


def _put(layer: nn.Module, key: str, value: Tensor) -> None:
    if key in layer._parameters:
        layer._parameters[key] = nn.Parameter(value.detach(), requires_grad=False)
    else:
        layer._buffers[key] = value


def own_mib() -> float:
    """Memory of this process alone, in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a process' own memory under /proc/self/status")


@contextmanager
def watched() -> Iterator[list[float]]:
    """The most that :func:`own_mib` was meanwhile, asked every 5 ms, as the list's one number."""
    most, over = [own_mib()], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most[0] = max(most[0], own_mib())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Run one evaluation and print what it held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offload", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--frames", type=int, default=2)
    options = parser.parse_args()
    config = PRESETS[options.preset]
    unet = outline(options.preset)
    settings, prior, codec = config.unet, config.archived_clip_prior, config.motion_codec
    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
    side, frames = settings.latent_size, options.frames
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unet.safetensors"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:  # this one stays small
            size = other.submit(write_weights, options.preset, path).result() / MEBIBYTE
        read_when_called(unet, path)
        given = (
            torch.randn(1, frames, settings.latent_channels, side, side, dtype=DTYPE),
            torch.full((1,), 500.0),
            torch.randn(1, frames, prior.num_queries, prior.width, dtype=DTYPE),
            torch.randn(1, frames, tokens, codec.motion_dim, dtype=DTYPE),
        )
        before, began, worked = own_mib(), time.perf_counter(), time.process_time()
        with torch.no_grad(), watched() as most:
            made, _ = unet(*given)
        taken, used = time.perf_counter() - began, time.process_time() - worked
    print(
        f"{options.preset}, {frames} frames: weights of {size:.0f} MiB, held {most[0] - before:.0f} MiB more than "
        f"before ({before:.0f}); {taken:.0f} s, {used:.0f} s of the CPU; finite: {bool(made.isfinite().all())}"
    )


if __name__ == "__main__":
    main()
