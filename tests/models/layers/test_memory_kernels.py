"""Layer 4's kernels against the plain layer, in Triton's interpreter where there is no GPU (extra ``kernels``)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton is not installed (pip install -e '.[kernels]')")

from mcdm_core.models.layers.memory_attention import memory_attention, update_memory  # noqa: E402
from mcdm_core.models.temporal_attention import (  # noqa: E402
    MemoryEfficientTemporalAttention,
    memory_recursion,
)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


@pytest.mark.parametrize(("frames", "past", "own"), [(16, 16, 16), (5, 5, 5), (3, 16, 3), (1, 1, 1)])
@pytest.mark.parametrize("width", [24, 40, 64])
def test_attention_over_memory_and_clip(frames: int, past: int, own: int, width: int) -> None:
    torch.manual_seed(frames + width)
    given = noise(3, frames, 2 * width), *((noise(3, n, 2 * width), noise(3, n, 2 * width)) for n in (past, own))
    plain = memory_attention(*given, heads=2)
    torch.testing.assert_close(memory_attention(*given, heads=2, kernel=True), plain, atol=1e-5, rtol=1e-4)


def test_large_scores_overflow_nothing() -> None:
    torch.manual_seed(0)
    query, key, value = 100 * noise(2, 4, 32), 100 * noise(2, 4, 32), noise(2, 4, 32)
    given = query, (key, value), (-key, value)
    made = memory_attention(*given, heads=2, kernel=True)
    assert made.isfinite().all()
    torch.testing.assert_close(made, memory_attention(*given, heads=2), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("cells", [3, 70])
def test_update_of_the_memory(carried: bool, alpha: float, cells: int) -> None:
    torch.manual_seed(cells)
    frames, memory = noise(2, 6, cells, 32), noise(2, cells, 32) if carried else None
    torch.testing.assert_close(
        update_memory(frames, alpha, memory), memory_recursion(frames, alpha, memory), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("motion_module", [False, True])
@pytest.mark.parametrize("carried", [False, True])
def test_the_whole_layer_is_the_same(motion_module: bool, carried: bool) -> None:
    torch.manual_seed(1)
    layer = MemoryEfficientTemporalAttention(64, 4, length=12, norm_groups=8, motion_module=motion_module).to(DEVICE)
    torch.nn.init.normal_(layer.proj_out.weight, std=0.1)
    given = noise(2, 6, 9, 64), noise(2, 6, 9, 64), noise(2, 9, 64) if carried else None
    with torch.no_grad():
        plain = layer(*given)
        layer.kernels = True
        fused = layer(*given)
    assert (plain[0] - given[1]).abs().max() > 0.01, "the layer does something"
    for made, expected in zip(fused, plain, strict=True):
        torch.testing.assert_close(made, expected, atol=2e-5, rtol=1e-4)


_COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from mcdm_core.models.layers import memory_kernels as kernels

def built(kernel, pointers, numbers, constants, dtype, capability):
    types = {name: "*" + dtype for name in pointers} | numbers | {name: "constexpr" for name in constants}
    made = compile(ASTSource(kernel, signature=types, constexprs=constants), target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"]

for capability in (80, 90):
    for dtype in ("fp32", "bf16", "fp16"):
        for width in (64, 256):
            built(kernels._attend, ("query", "past_key", "past_value", "key", "value", "out"),
                  dict.fromkeys(("heads", "frames", "past", "own", "width"), "i32") | {"scale": "fp32"},
                  {"FRAMES": 16, "PAST": 16, "OWN": 16, "WIDTH": width}, dtype, capability)
        built(kernels._update, ("frames", "memory", "out"), {"alpha": "fp32", "count": "i32", "size": "i32"},
              {"CARRIED": True, "BLOCK": 1024}, dtype, capability)
"""


@pytest.mark.slow
def test_they_compile_to_a_gpu_s_instructions_without_one() -> None:
    """For the sizes of ``base``, on Ampere and Hopper; needs Triton's own assembler, which its wheel brings."""
    pytest.importorskip("triton.backends.compiler")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", _COMPILE], env=environment, check=True)
