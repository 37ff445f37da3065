"""The motion codec of the stock layout: trained on shards by the command, and taken by stage 3 and the bundle."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core import config
from mcdm_core.__main__ import main
from mcdm_core.checkpoint import load_checkpoint, save_checkpoint
from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.errors import MCDMError
from mcdm_core.training.codec.train import train_codec
from mcdm_core.training.stock.train import load_start
from mcdm_core.training.workers import Workers

from .narrow import NARROW
from .processes import curve_of, curve_of_two, stopped_differs


def _moving_clip(seed: int, frames: int = 24) -> dict[str, np.ndarray]:
    """A dark bar that opens and shuts, with the points and the value that say so."""
    random = np.random.default_rng(seed)
    opening = 0.5 + 0.5 * np.sin(np.arange(frames) * random.uniform(0.3, 0.9))
    pictures = np.full((frames, 64, 64, 3), 160, np.uint8)
    points = np.tile(random.uniform(0.3, 0.7, (68, 2)), (frames, 1, 1))
    for frame, height in enumerate((2 + 10 * opening).astype(int)):
        pictures[frame, 40 : 40 + height, 20:44] = 20
    points[:, 16:20, 1] += 0.1 * opening[:, None]
    values = np.zeros((frames, 16), np.float32)
    values[:, 0] = opening
    return {
        "frames": pictures,
        "landmarks": points.astype(np.float32),
        "pose": np.zeros((frames, 6), np.float32),
        "values": values,
        "audio": np.zeros(frames * 640, np.int16),
    }


def _pairs(seed: int) -> dict[str, np.ndarray]:
    """Two mouths with two faces each, of no picture that means anything."""
    random = np.random.default_rng(seed)
    return {
        "pairs": random.integers(0, 255, (4, 4, 128, 128, 3), np.uint8),
        "pair_landmarks": random.uniform(0.3, 0.7, (4, 4, 68, 2)).astype(np.float32),
        "pair_values": random.random((4, 4, 16), np.float32),
    }


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        with ShardWriter(tmp_path / "shards" / split / "a.safetensors") as writer:
            for index in range(count):
                info = {**dict.fromkeys(INFO_FIELDS, ""), "source": "real video", "fps": 25}
                seed = 10 * len(split) + index
                writer.add({**_moving_clip(seed), **_pairs(seed)}, info)
    return tmp_path / "shards"


def test_the_codec_is_trained_and_used(
    shards: Path,
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    monkeypatch.setitem(config.PRESETS, "base", NARROW)
    made, whole = load_checkpoint(start), tmp_path / "start.safetensors"
    save_checkpoint(whole, {k: v for k, v in made.states.items() if k != "motion_codec"}, NARROW, stage=0)
    common = ["--preset", "base", "--output", str(tmp_path / "run"), "--device", "cpu"]
    stage3 = ["train", "unet3", *common, "--start", str(whole), "--data", str(data), "--steps", "1", "--batch", "2"]
    stage3 += ["--readers", "0", "--float32"]
    assert main(["train", "codec", *common, "--data", str(shards), "--steps", "3", "--batch", "4"]) == 0
    assert main(stage3) == 0
    parts = load_start(3, [whole, tmp_path / "run"], torch.device("cpu"))[2]
    assert parts.codec is not None and float(parts.codec.token_std.min()) != 1.0, "statistics are filled in"
    assert main(["train", "bundle", *common, "--start", str(whole)]) == 0
    bundled = load_checkpoint(Path(capsys.readouterr().out.strip()))
    assert bundled.stage == 3 and "motion_codec" in bundled.states and bundled.config.preset == "base"


def _train(shards: Path, output: Path, **more) -> None:
    train_codec(
        [shards / "train"],
        output,
        None,
        [shards / "val"],
        NARROW,
        steps=8,
        couples=8,
        quadruples=4,
        log_every=1,
        **more,
    )


def test_two_processes_give_the_loss_curve_of_one(shards: Path, tmp_path: Path) -> None:
    training = functools.partial(_train, shards)
    one = curve_of(training, tmp_path / "one.safetensors")
    two = curve_of_two(training, tmp_path / "two.safetensors")
    assert len(one) == len(two) == 8 and np.abs(np.array(one) - two).max() < 1e-4 and one[0] != one[-1]
    made = [load_file(str(tmp_path / f"{name}.safetensors")) for name in ("one", "two")]
    for name in ("lip_encoder.spread.running_var", "guider.spread.running_var", "token_std"):
        assert torch.allclose(*(state[f"motion_codec.{name}"] for state in made), atol=1e-4), name


def test_a_stopped_codec_goes_on_with_the_next_couples(shards: Path, tmp_path: Path) -> None:
    assert stopped_differs(functools.partial(_train, shards), tmp_path, after=5, name="{}_training") < 1e-6


def test_couples_that_processes_cannot_share_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(MCDMError, match="8 cannot be shared by 3"):
        _train(shards, tmp_path / "a.safetensors", workers=Workers(0, 3))


def test_what_the_codec_cannot_use_is_said(data: Path, tmp_path: Path, capsys) -> None:
    command = ["train", "codec", "--preset", "small", "--output", str(tmp_path), "--device", "cpu"]
    assert main([*command, "--data", str(data)]) == 1
    assert "label-data" in capsys.readouterr().err
