"""The shared training loop: rates, averaging, exact resume, checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mcdm_core.errors import MCDMError, WeightsError
from mcdm_core.training.loop import (
    LoopSettings,
    WeightAverage,
    learning_rate_factor,
    read_metadata,
    resume_path,
    save_state,
    train,
)


def _run(output: Path, steps: int, schedule: int) -> nn.Module:
    """Fit a line on random batches; ``schedule`` limits by steps, an exception stops earlier."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def losses(step: int) -> dict[str, torch.Tensor]:
        if step >= steps:
            raise KeyboardInterrupt
        x = torch.randn(8, 3)
        return {"loss": (module(x) - x.sum(1, keepdim=True)).square().mean()}

    settings = LoopSettings(output, steps=schedule, learning_rate=0.05, warmup_steps=2, metadata={"component": "line"})
    try:
        train(module, losses, settings)
    except KeyboardInterrupt:
        assert steps < schedule
    return module


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    _run(tmp_path / "whole.safetensors", 12, 12)
    _run(tmp_path / "parts.safetensors", 5, 12)
    assert resume_path(tmp_path / "parts.safetensors").exists()
    _run(tmp_path / "parts.safetensors", 12, 12)
    whole, parts = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "parts.safetensors")
    for key, value in whole.items():
        assert torch.allclose(value.float(), parts[key].float(), atol=1e-6), key


def test_training_reduces_the_loss_and_stores_metadata(tmp_path: Path) -> None:
    module = _run(tmp_path / "line.safetensors", 150, 150)
    x = torch.randn(64, 3)
    assert (module(x) - x.sum(1, keepdim=True)).square().mean() < 1.0
    assert read_metadata(tmp_path / "line.safetensors")["component"] == "line"
    assert not list(tmp_path.glob("*.part"))


def test_learning_rate_warms_up_and_falls_to_its_end() -> None:
    assert learning_rate_factor(0, 0.0, 10, 0.1) == pytest.approx(0.1)
    assert learning_rate_factor(50, 0.0, 10, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(50, 1.0, 10, 0.1) == pytest.approx(0.1)
    assert learning_rate_factor(50, 0.5, 10, 0.0) == pytest.approx(0.5)


def test_average_swaps_in_and_out() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, 0.9)
    with torch.no_grad():
        module.weight.add_(1.0)
    average.update(module)
    raw = module.weight.detach().clone()
    with average.swapped_in(module):
        assert not torch.allclose(module.weight, raw) and not module.training
    assert torch.equal(module.weight, raw) and module.training


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    before = module.weight.detach().clone()

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {"loss": module(torch.full((1, 1), float("inf"))).sum()}

    train(module, losses, LoopSettings(tmp_path / "x.safetensors", steps=2))
    assert torch.equal(module.weight, before)


def test_limits_and_damaged_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(MCDMError, match="limit"):
        LoopSettings(tmp_path / "x.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_metadata(tmp_path / "bad.safetensors")


def test_resume_of_another_model_is_refused(tmp_path: Path) -> None:
    _run(tmp_path / "x.safetensors", 2, 2)
    with pytest.raises(WeightsError, match="another model"):
        train(nn.Linear(7, 7), lambda step: {}, LoopSettings(tmp_path / "x.safetensors", steps=3))


def test_saved_state_survives_shared_and_strided_tensors(tmp_path: Path) -> None:
    tensor = torch.arange(12.0).view(3, 4)
    save_state(tmp_path / "s.safetensors", {"a": tensor.T, "b": tensor[1]})
    assert torch.equal(load_file(tmp_path / "s.safetensors")["a"], tensor.T)
