"""What a preset costs, counted on PyTorch's ``meta`` device, which computes nothing and needs no memory.

    python -m benchmarks.outline [--preset base] [--dtype float16] [--card 8] [--json FILE]

Operations and bytes are a frame's, the memory is what a stage holds beside the weights. At the end stands how much of a
card is needed with every weight on it, with one network at a time, and with one layer at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdm_core.config import PRESETS, MCDMConfig
from mcdm_core.model import MCDMModel

from .counting import Counts, counted
from .machine import MEBIBYTE

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def outlined(config: MCDMConfig, dtype: torch.dtype) -> MCDMModel:
    """The preset's networks without values."""
    with torch.device("meta"):
        model = MCDMModel(config)
    return model.to("meta", dtype).eval().requires_grad_(False)


def calls(model: MCDMModel, dtype: torch.dtype) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Stages: name, how many frames they make, and the call."""
    config = model.config
    frames, unet, codec, prior = config.clip_frames, config.unet, config.motion_codec, config.archived_clip_prior
    side, channels, videos = unet.latent_size, unet.latent_channels, 2 if config.parts.size else 1

    def values(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta", dtype=dtype)

    from mcdm_core.face.part_shapes import SHAPE_TOKENS

    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens + SHAPE_TOKENS * unet.shape_maps
    width = codec.motion_dim * (2 if config.parts.size else 1)
    memory = {name: values(videos, *shape) for name, shape in model.unet.memory_shapes().items()}

    def evaluation(batch: int) -> Callable[[], object]:
        guide = values(batch, frames, unet.guide_channels, side, side) if unet.warped_reference else None
        given = values(batch, frames, channels, side, side), torch.empty(batch, device="meta")
        rows = values(batch, frames, prior.num_queries, prior.width)
        carried = {name: value.repeat(batch // videos, 1, 1) for name, value in memory.items()}
        return lambda: model.unet(*given, rows, values(videos, frames, tokens, width), carried, guide)

    yield "UNet, a step", frames, evaluation(videos)
    yield "UNet, a step with guidance", frames, evaluation(2 * videos)
    pixels = config.parts.size or config.image_size
    yield "picture encoded", 1, lambda: model.vae.encode(values(1, 3, pixels, pixels))
    yield "clip decoded at once", frames, lambda: model.vae.decode(values(videos * frames, channels, side, side))
    yield "clip decoded one by one", 1, lambda: model.vae.decode(values(1, channels, side, side))
    if model.vae.in_tiles():
        yield "picture encoded in tiles", 1, lambda: model.vae.encode(values(1, 3, pixels, pixels))
        yield "decoded one by one in tiles", 1, lambda: model.vae.decode(values(1, channels, side, side))
    cells = (prior.latent_size // prior.patch_size) ** 2
    rows = values(videos, prior.num_queries, cells)
    archived = values(videos, frames, channels, prior.latent_size, prior.latent_size)
    yield "archive", frames, lambda: model.archived_clip_prior(rows, archived)


@contextlib.contextmanager
def fused_attention() -> Iterator[None]:
    """Attention as GPUs compute it, without the matrix of all pairs, which ``meta`` would write down."""
    plain = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def weights(model: nn.Module) -> int:
    """Bytes of a module's weights and buffers."""
    return sum(value.nbytes for value in model.state_dict().values())


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outline", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of weights and activations")
    parser.add_argument("--card", type=float, default=8, help="memory of the GPU in GiB")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dtype = DTYPES[options.dtype]
    model = outlined(PRESETS[options.preset], dtype)
    print(f"{'stage':28} {'Gflop a frame':>13} {'GB moved a frame':>16} {'MiB held':>9}")
    found: dict[str, Counts] = {}
    frames_of: dict[str, int] = {}
    for name, frames, call in calls(model, dtype):
        with fused_attention():
            found[name], frames_of[name] = counted(call), frames
        counts = found[name]
        print(
            f"{name:28} {counts.operations / frames / 1e9:13.2f} {counts.moved / frames / 1e9:16.3f} "
            f"{counts.held / MEBIBYTE:9.0f}",
            flush=True,
        )
    sizes = {name: weights(child) / MEBIBYTE for name, child in model.named_children()}
    layers = [weights(module) for module in model.modules() if not any(module.children())]
    print("weights in MiB: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))
    # A clip decoded at once is halved where memory does not suffice: one by one is what has to fit.
    held = max(counts.held for name, counts in found.items() if "at once" not in name) / MEBIBYTE
    needed = {
        "every weight": sum(sizes.values()) + held,
        "one network at a time": max(sizes.values()) + held,
        "one layer at a time": max(layers) / MEBIBYTE + held,
    }
    for name, size in needed.items():
        fits = "fits" if size < 1024 * options.card else "does not fit"
        print(f"with {name} on the card: {size:.0f} MiB, {fits} in {options.card:g} GiB")
    if options.json:
        rows = [
            {"stage": name, "frames": frames_of[name], "flop": c.operations, "moved": c.moved, "held": c.held}
            for name, c in found.items()
        ]
        made = {"preset": options.preset, "dtype": options.dtype, "stages": rows, "weights_mib": sizes}
        options.json.write_text(json.dumps({**made, "needed_mib": needed}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
