"""What the benchmarks count, and that their measurements take turns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as speed
from benchmarks import offload, outline
from benchmarks.counting import counted
from benchmarks.machine import peak_gflops
from benchmarks.stages import Stage, miniature
from mcdm_core.config import PRESETS, SMALL
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.pipeline import MCDMPipeline

CPU = torch.device("cpu")


def test_operations_and_bytes_of_a_product() -> None:
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    counts = counted(lambda: a @ b)
    assert counts.operations == 2 * 4 * 8 * 16
    assert counts.moved == 4 * (4 * 8 + 8 * 16 + 4 * 16)
    assert counts.held == 4 * 4 * 16


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_held_is_what_lives_at_a_time(device: str) -> None:
    x = torch.ones(1000, device=device)

    def chain() -> torch.Tensor:
        y = x
        for _ in range(5):
            y = y + 1  # one result lives while the next is made
        return y.view(10, 100)  # a view holds nothing

    assert counted(chain).held == 2 * 4000
    assert counted(lambda: [x + 1 for _ in range(5)]).held == 5 * 4000


def test_what_is_repeated_by_its_strides_is_moved_once() -> None:
    row = torch.ones(1, 100)
    assert counted(lambda: row.expand(50, 100).sum()).moved == 4 * 100 + 4


def test_variants_take_turns_and_have_their_own_rows(pipe: MCDMPipeline, monkeypatch) -> None:
    ways: list[tuple[str, torch.dtype, int]] = []
    threads = [0]
    monkeypatch.setattr(torch, "set_num_threads", lambda number: threads.__setitem__(0, number))

    def stage(name: str) -> Stage:
        return Stage(name, 2, lambda: ways.append((name, pipe.model.picture_format, threads[0])))

    variants = [speed.Variant(1, "float32", 10.0), speed.Variant(2, "bfloat16", 20.0)]
    try:
        rows = speed.measure([stage("a"), stage("b")], 2, CPU, variants, pipe.model)
    finally:
        pipe.model.picture_format = torch.float32
    turn = [("a", torch.float32, 1), ("a", torch.bfloat16, 2), ("b", torch.float32, 1), ("b", torch.bfloat16, 2)]
    assert ways[: 3 * len(turn)] == 3 * turn, "a first turn that does not count, and two that do"
    assert [(row["stage"], row["dtype"]) for row in rows] == [
        ("a", "float32"), ("a", "bfloat16"), ("b", "float32"), ("b", "bfloat16")
    ]  # fmt: skip
    assert all(row["quartiles"][0] <= row["ms"] <= row["quartiles"][1] for row in rows)


def test_the_share_of_the_peak_is_that_of_the_operations(pipe: MCDMPipeline) -> None:
    a = torch.ones(512, 512)
    variant = speed.Variant(1, "float32", peak_gflops(CPU, torch.float32, 0.05))
    before = torch.get_num_threads()
    try:
        (row,) = speed.measure([Stage("product", 1, lambda: a @ a)], 5, CPU, [variant], pipe.model)
    finally:
        torch.set_num_threads(before)
    assert row["gflop"] == pytest.approx(2 * 512**3 / 1e9)
    assert row["share_of_peak"] == pytest.approx(row["gflop"] / row["cpu_ms"] * 1000 / variant.peak)


def test_base_is_counted_without_its_memory(monkeypatch, tmp_path: Path, capsys) -> None:
    pytest.importorskip("transformers", reason="CLIP and Wav2Vec 2.0 of base")
    pytest.importorskip("diffusers", reason="the autoencoder of base")
    monkeypatch.setitem(PRESETS, "base", miniature(PRESETS["base"]))
    monkeypatch.setattr(sys, "argv", ["outline", "--card", "0.001", "--json", str(tmp_path / "base.json")])
    assert outline.main() == 0
    told = capsys.readouterr().out
    assert "UNet, a step with guidance" in told and "does not fit in 0.001 GiB" in told
    found = json.loads((tmp_path / "base.json").read_text())
    stages = {row["stage"]: row for row in found["stages"]}
    plain, guided = stages["UNet, a step"], stages["UNet, a step with guidance"]
    assert 1.8 < guided["flop"] / plain["flop"] <= 2, "the free half has no layer 3"
    assert stages["clip decoded at once"]["held"] > 8 * stages["clip decoded one by one"]["held"]
    tiled, whole = stages["decoded one by one in tiles"], stages["clip decoded one by one"]
    assert tiled["held"] < 0.6 * whole["held"] and tiled["flop"] > whole["flop"], "tiles overlap"
    assert stages["picture encoded in tiles"]["held"] < 0.6 * stages["picture encoded"]["held"]
    needed = found["needed_mib"]
    assert needed["one layer at a time"] < needed["one network at a time"] < needed["every weight"]


def test_a_unet_of_one_layer_at_a_time_computes_the_same(tmp_path: Path) -> None:
    config = miniature(SMALL)
    with torch.device("meta"):
        outlined = DenoisingUNet(config).to(offload.DTYPE).eval().requires_grad_(False)
    path = tmp_path / "unet.safetensors"
    torch.manual_seed(0)
    whole = DenoisingUNet(config).to(offload.DTYPE).eval().requires_grad_(False)
    offload.save_file({name: value.clone() for name, value in whole.state_dict().items()}, path)
    for buffers in ("random_features", "recursion"):
        for one, other in zip(outlined.transformer_blocks(), whole.transformer_blocks(), strict=True):
            one.temporal.register_buffer(buffers, getattr(other.temporal, buffers), persistent=False)
    offload.read_when_called(outlined, path)
    settings, prior, codec = config.unet, config.archived_clip_prior, config.motion_codec
    tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
    given = [
        torch.randn(shape, dtype=offload.DTYPE)
        for shape in [
            (1, 2, settings.latent_channels, 8, 8),
            (1, 2, prior.num_queries, prior.width),
            (1, 2, tokens, codec.motion_dim),
        ]
    ]
    x, rows, motion = given
    expected, memory = whole(x, torch.full((1,), 500.0), rows, motion)
    made, carried = outlined(x, torch.full((1,), 500.0), rows, motion)
    assert torch.equal(made, expected) and all(torch.equal(carried[name], memory[name]) for name in memory)
    left = [value for name, value in outlined.named_parameters() if name.endswith("to_q.weight")]
    assert left and all(value.is_meta for value in left), "no layer keeps its weights"
