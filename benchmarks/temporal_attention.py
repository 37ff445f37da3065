"""Exact softmax against FAVOR+ in the temporal attention, at the lengths and widths of both presets and beyond.

    python -m benchmarks.temporal_attention [--threads 2] [--repeats 5]

Prints milliseconds a call and FAVOR+'s relative error with 256 random features. Series are as layer 4 sees them: one
for every spatial position, the queries those of the clip, the keys memory and clip.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from mcdm_core.config import BASE, TINY, MCDMConfig
from mcdm_core.models.layers.attention import fast_attention, random_features

LENGTHS = (32, 64, 128, 256, 512, 1024)


def shape_of(config: MCDMConfig) -> tuple[int, int]:
    """Heads and width a head of the preset's widest UNet level."""
    heads = config.unet.num_heads
    return heads, config.unet.block_channels[-1] // heads


def milliseconds(call: Callable[[], torch.Tensor], repeats: int) -> float:
    """Least time of a few calls: the one that was disturbed least."""
    call()
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--positions", type=int, default=16, help="spatial positions (series) at a time")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print("preset  heads x width  length   exact ms  FAVOR+ ms  exact/FAVOR+  relative error")
    for name, config in (("tiny", TINY), ("base", BASE)):
        heads, width = shape_of(config)
        features = random_features(config.unet.favor_features, width)
        for length in LENGTHS:
            generator = torch.Generator().manual_seed(length)
            half = length // 2
            query = torch.randn(arguments.positions, heads, half, width, generator=generator)
            key = torch.randn(arguments.positions, heads, length, width, generator=generator)
            value = torch.randn(arguments.positions, heads, length, width, generator=generator)
            exact = milliseconds(partial(F.scaled_dot_product_attention, query, key, value), arguments.repeats)
            fast = milliseconds(partial(fast_attention, query, key, value, features), arguments.repeats)
            truth = F.scaled_dot_product_attention(query, key, value)
            error = float((fast_attention(query, key, value, features) - truth).norm() / truth.norm())
            row = f"{name:6}  {heads:5} x {width:<5}  {length:6}  {exact:9.3f}  {fast:9.3f}"
            print(f"{row}  {exact / fast:12.2f}  {error:14.3f}", flush=True)


if __name__ == "__main__":
    main()
