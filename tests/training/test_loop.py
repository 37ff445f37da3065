"""The shared training loop: rates, averaging, exact resume, checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mcdm_core.errors import MCDMError, PackageError, WeightsError
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


def test_sources_of_its_own_go_on_where_they_stood(tmp_path: Path) -> None:
    def run(name: str, stop_at: int | None = None, validate_every: int = 100) -> list[tuple[float, float, float]]:
        module, drawn = torch.nn.Linear(1, 1), []
        own = (np.random.default_rng(3), torch.Generator().manual_seed(3))
        torch.manual_seed(3)

        def losses(step: int) -> dict[str, torch.Tensor]:
            drawn.append((own[0].random(), float(torch.rand((), generator=own[1])), float(torch.rand(()))))
            if step == stop_at:
                raise KeyboardInterrupt
            return {"loss": module(torch.ones(1, 1)).square().mean()}

        def validate(module: nn.Module, step: int) -> dict[str, float]:
            return {"drawn": own[0].random() + float(torch.rand(()))}

        settings = LoopSettings(tmp_path / name, steps=6, draws=own, save_every=2, validate_every=validate_every)
        try:
            train(module, losses, settings, validate)
        except KeyboardInterrupt:
            assert stop_at is not None
        return drawn

    whole = run("whole.safetensors")
    assert run("parts.safetensors", stop_at=3) == whole[:4]
    assert run("parts.safetensors") == whole[3:], "the step that was stopped is taken again"
    assert run("judged.safetensors", validate_every=2) == whole, "a validation changes nothing"


def test_a_stop_in_a_validation_loses_no_step(tmp_path: Path) -> None:
    for validate_every, steps in ((4, 4), (100, 6)):  # in the middle, at the end
        output = tmp_path / f"{validate_every}.safetensors"

        def validate(module: torch.nn.Module, step: int) -> dict[str, float]:
            raise KeyboardInterrupt

        module = torch.nn.Linear(3, 1)

        def losses(step: int, module: torch.nn.Module = module) -> dict[str, torch.Tensor]:
            return {"loss": module(torch.ones(2, 3)).square().mean()}

        with pytest.raises(KeyboardInterrupt):
            train(module, losses, LoopSettings(output, steps=6, validate_every=validate_every), validate)
        assert int(read_metadata(output)["step"]) == steps
        result = train(module, losses, LoopSettings(output, steps=6), lambda module, step: {"step": step})
        assert result.steps == 6 and result.validation == {"step": 6.0}


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


def test_a_critic_is_not_forgotten_when_a_run_stops(tmp_path: Path) -> None:
    def run(steps: int) -> list[float]:
        """The critic's word at every step: each teaches it once."""
        torch.manual_seed(0)
        module, critic, words = nn.Linear(2, 1), nn.Linear(2, 1), []

        def losses(step: int) -> dict[str, torch.Tensor]:
            words.append(float(critic.weight.detach().sum()))
            with torch.no_grad():
                critic.weight += 1.0
            return {"loss": module(torch.ones(1, 2)).square().mean()}

        train(module, losses, LoopSettings(tmp_path / "x.safetensors", steps=steps, beside=critic))
        return words

    first = run(3)
    assert run(5)[0] == pytest.approx(first[-1] + 2.0)


def test_saved_state_survives_shared_and_strided_tensors(tmp_path: Path) -> None:
    tensor = torch.arange(12.0).view(3, 4)
    save_state(tmp_path / "s.safetensors", {"a": tensor.T, "b": tensor[1]})
    assert torch.equal(load_file(tmp_path / "s.safetensors")["a"], tensor.T)


def test_moments_of_eight_bits_learn_and_go_on(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="has the 8-bit optimiser")
    from mcdm_core.training.optimizers import build_optimizer

    try:
        build_optimizer([nn.Parameter(torch.zeros(1))], 1e-3, (0.9, 0.99), 0.0, eight_bit=True)
    except PackageError as error:
        pytest.skip(str(error))

    def run(output: Path, until: int, steps: int = 12, eight_bit: bool = True) -> list[float]:
        torch.manual_seed(0)
        module, curve = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)), []

        def losses(step: int) -> dict[str, torch.Tensor]:
            if step >= until:
                raise KeyboardInterrupt
            x = torch.randn(32, 64, generator=torch.Generator().manual_seed(step))
            loss = (module(x) - x.flip(1)).square().mean()
            curve.append(float(loss.detach()))
            return {"loss": loss}

        settings = LoopSettings(output, steps=steps, learning_rate=0.02, warmup_steps=2, eight_bit=eight_bit)
        try:
            train(module, losses, settings)
        except KeyboardInterrupt:
            assert until < steps
        return curve

    whole = run(tmp_path / "whole.safetensors", 12)
    usual = run(tmp_path / "usual.safetensors", 12, eight_bit=False)
    assert whole[-1] < 0.8 * whole[0] and whole != usual and abs(whole[-1] - usual[-1]) < 0.1
    run(tmp_path / "parts.safetensors", 5)
    held = load_file(resume_path(tmp_path / "parts.safetensors"))
    assert held["optimizer/state1/0.weight"].dtype == torch.uint8
    assert run(tmp_path / "parts.safetensors", 12)[-1] == pytest.approx(whole[-1], abs=1e-5)
    run(tmp_path / "other.safetensors", 5)
    with pytest.raises(WeightsError, match="begun with the 8-bit"):
        run(tmp_path / "other.safetensors", 12, eight_bit=False)


def test_a_device_without_the_eight_bit_optimiser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    from types import SimpleNamespace

    from mcdm_core.training.optimizers import build_optimizer

    class Broken(torch.optim.SGD):
        """A build without the operation."""

        def __init__(self, parameters, lr: float, **_: object) -> None:
            super().__init__(parameters, lr)

        def step(self) -> None:
            raise NotImplementedError("no such operation on the cpu")

    parts = [nn.Parameter(torch.zeros(3))]
    monkeypatch.setattr(
        importlib, "import_module", lambda name: SimpleNamespace(optim=SimpleNamespace(AdamW8bit=Broken))
    )
    with pytest.raises(PackageError, match=r"8-bit optimiser for cpu \(no such operation"):
        build_optimizer(parts, 1e-3, (0.9, 0.99), 0.0, eight_bit=True)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(PackageError, match="pip install bitsandbytes"):
        build_optimizer(parts, 1e-3, (0.9, 0.99), 0.0, eight_bit=True)
