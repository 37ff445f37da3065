"""Training of the stock layout on curated clips: samples, resuming, accumulation, checkpointing, several processes."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.__main__ import main
from mcdm_core.checkpoint import load_checkpoint
from mcdm_core.data.tar_clips import TarClips
from mcdm_core.training.stock.samples import ClipSamples, batches
from mcdm_core.training.stock.train import StockRecipe, load_start, train_stock
from mcdm_core.training.workers import Workers

from .narrow import NARROW, RECIPE
from .processes import curve_of, curve_of_two, stopped_differs


def _train(stage: int, data: Path, start: Path, output: Path, recipe: StockRecipe = RECIPE, **more) -> None:
    train_stock(stage, data, [start], output, recipe, **more)


def run(data: Path, start: Path, output: Path, recipe: StockRecipe, stage: int = 1) -> list[float]:
    """The loss after every step."""
    return curve_of(functools.partial(_train, stage, data, start, recipe=recipe), output)


def test_samples_depend_on_their_number_alone(data: Path) -> None:
    samples = ClipSamples(TarClips(sorted((data / "train").glob("*.tar")), at_least=8), NARROW, seed=3, motion=True)
    whole = batches(samples, 4, 0, Workers())
    first, second = next(whole), next(whole)
    again = next(batches(samples, 4, 1, Workers()))
    assert all(torch.equal(second[key], again[key]) for key in second)
    halves = [next(batches(samples, 4, 0, Workers(rank, 2))) for rank in range(2)]
    for key, value in first.items():
        assert torch.equal(value, torch.stack([halves[0][key], halves[1][key]], 1).flatten(0, 1)), key
    assert first["target"].shape == (4, 4, 3, 64, 64) and first["noise"].shape == (4, 4, 4, 8, 8)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_stage_learns_what_is_its_own(data: Path, start: Path, tmp_path: Path, stage: int) -> None:
    recipe = dataclasses.replace(RECIPE, backbone=False)
    train_stock(stage, data, [start], tmp_path / "unet.safetensors", recipe)
    before = load_start(stage, [start], torch.device("cpu"))[1].state_dict()
    after = load_file(str(tmp_path / "unet.safetensors"))
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    own = ("archived",) if stage == 1 else (".present_", ".temporal.")
    assert moved and all(any(part in key for part in own) for key in moved)


def test_a_stopped_training_goes_on_with_the_next_sample(data: Path, start: Path, tmp_path: Path) -> None:
    assert stopped_differs(functools.partial(_train, 1, data, start), tmp_path, after=2) < 1e-6


def test_accumulated_and_recomputed_steps_are_the_same_steps(data: Path, start: Path, tmp_path: Path) -> None:
    plain = run(data, start, tmp_path / "a.safetensors", dataclasses.replace(RECIPE, checkpointing=False), stage=3)
    kept = run(data, start, tmp_path / "b.safetensors", dataclasses.replace(RECIPE, checkpointing=True), stage=3)
    assert np.allclose(plain, kept, atol=1e-5)
    turns = run(data, start, tmp_path / "c.safetensors", dataclasses.replace(RECIPE, accumulate=2), stage=3)
    assert np.allclose(plain, turns, atol=1e-5)


def test_the_command_goes_from_a_start_to_one_file(data: Path, start: Path, tmp_path: Path, capsys) -> None:
    common = ["--preset", "base", "--start", str(start), "--output", str(tmp_path), "--device", "cpu"]
    steps = ["--data", str(data), "--steps", "2", "--batch", "2", "--accumulate", "2", "--readers", "0", "--float32"]
    for stage in ("unet1", "unet3"):
        assert main(["train", stage, *common, *steps]) == 0
    assert main(["train", "bundle", *common]) == 0
    made = load_checkpoint(Path(capsys.readouterr().out.strip()))
    assert made.stage == 3 and set(made.states) == {"vae", "unet", "motion_codec", "archived_clip_prior"}
    before = load_checkpoint(start).states
    for part, learns in (("vae", False), ("motion_codec", False), ("archived_clip_prior", True), ("unet", True)):
        half = {key: value.half() for key, value in before[part].items()}
        assert learns == any(not torch.equal(half[key], value) for key, value in made.states[part].items()), part


def test_the_command_says_what_is_missing(data: Path, start: Path, tmp_path: Path, capsys) -> None:
    common = ["--preset", "base", "--output", str(tmp_path), "--device", "cpu"]
    for arguments, told in (
        (["unet1", "--data", str(data)], "--start"),
        (["unet1", "--start", str(start)], "--data"),
        (["vae", "--start", str(start), "--data", str(data)], "not trained for base"),
        (["unet1", "--start", str(start), "--data", str(data), "--batch", "3", "--accumulate", "2"], "cannot be"),
        (["unet1", "--start", str(start), "--data", str(tmp_path)], "curate"),
    ):
        assert main(["train", *arguments, *common]) != 0
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("stage", [1, 3])
def test_two_processes_give_the_loss_curve_of_one(data: Path, start: Path, tmp_path: Path, stage: int) -> None:
    training = functools.partial(_train, stage, data, start)
    one = curve_of(training, tmp_path / "one.safetensors")
    two = curve_of_two(training, tmp_path / "two.safetensors")
    assert len(one) == len(two) and np.abs(np.array(one) - two).max() < 1e-4 and one[0] != one[-1]


def test_accelerate_starts_the_processes(data: Path, start: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="starts the processes")
    options = ["train", "unet1", "--preset", "base", "--start", str(start), "--data", str(data), "--device", "cpu"]
    options += ["--steps", "3", "--batch", "4", "--readers", "0", "--float32", "--learning-rate", "0.01", "--output"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "mcdm_core"]
    path = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, [os.getenv("PYTHONPATH")])])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        launch[3:3] = ["--main_process_port", str(probe.getsockname()[1])]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *options, str(tmp_path / "two")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert main([*options, str(tmp_path / "one")]) == 0
    one, two = (load_file(str(tmp_path / name / "unet_stage1.safetensors")) for name in ("one", "two"))
    before = load_start(1, [start], torch.device("cpu"))[1].state_dict()
    moved = max(float((one[key] - before[key]).abs().max()) for key in one)
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 0.05 * moved


def test_an_adapter_is_trained_alone_and_fits_the_model(data: Path, start: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="trains the adapter")
    from mcdm_core.adapter import load_adapter, merge_adapters

    options = ["--preset", "base", "--start", str(start), "--data", str(data), "--output", str(tmp_path)]
    more = ["--steps", "2", "--batch", "2", "--readers", "0", "--float32", "--rank", "2", "--person", "anna"]
    assert main(["train", "lora", *options, *more, "--device", "cpu"]) == 0
    pairs, info = load_adapter(tmp_path / "lora.safetensors")
    assert info.person == "anna" and info.preset == "base" and all(len(down) == 2 for down, _ in pairs.values())
    assert any(float(up.abs().max()) > 0 for _, up in pairs.values())
    config, states, _ = load_checkpoint(start)
    merged = merge_adapters(states, config, [(tmp_path / "lora.safetensors", 1.0)])
    moved = {key for key, weight in merged["unet"].items() if not torch.equal(weight, states["unet"][key])}
    assert moved and all("attn" in key or ".ff." in key or ".temporal." in key for key in moved)
