"""Numbers of a training reach the program that was asked for; where it is not installed, that is said."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from mcdm_core.errors import MCDMError, PackageError
from mcdm_core.training.tracking import tracking


class NotedRun:
    """Stands in for a run of Weights & Biases."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.finished = False
        self.define_metric = lambda *_, **__: None

    def log(self, numbers: dict[str, float]) -> None:
        self.logged.append(numbers)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What runs were begun with; ``run`` is the run."""
    begun: list[dict[str, object]] = []

    def init(**settings: object) -> NotedRun:
        begun.append({**settings, "run": NotedRun()})
        return begun[-1]["run"]  # type: ignore[return-value]

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return begun


def test_a_run_goes_on_under_its_name_and_ends_with_the_training(wandb, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), tracking("wandb", tmp_path / "a" / "unet.safetensors") as tracker:
            assert tracker is not None
            tracker(7, {"loss": 0.5})
            raise KeyboardInterrupt
    with tracking("wandb", tmp_path / "b" / "unet.safetensors"):
        pass
    assert wandb[0]["run"].logged == [{"loss": 0.5, "step": 7}] and wandb[0]["run"].finished
    assert wandb[0]["id"] == wandb[1]["id"] != wandb[2]["id"] and wandb[0]["name"] == "a-unet"


def test_the_command_sends_losses_and_validation(wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcdm_core.__main__ import main
    from mcdm_core.training.stock import train

    def short(*_: object, tracker, **__: object) -> None:
        tracker(1, {"loss": 2.0})
        tracker(1, {"validation/mse": 3.0})

    monkeypatch.setattr(train, "train_stock", short)
    command = ["train", "unet1", "--preset", "base", "--start", "start.safetensors", "--data", str(tmp_path)]
    assert main([*command, "--output", str(tmp_path / "run"), "--device", "cpu", "--track", "wandb"]) == 0
    assert wandb[0]["run"].logged == [{"loss": 2.0, "step": 1}, {"validation/mse": 3.0, "step": 1}]


def test_tensorboard_reads_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="reads its files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking("tensorboard", tmp_path / "unet.safetensors") as tracker:
        assert tracker is not None
        for step in (1, 2):
            tracker(step, {"loss": 1 / step})
    events = EventAccumulator(str(tmp_path / "tensorboard" / "unet"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PackageError, match=f"pip install {module}"), tracking(kind, tmp_path / "a.safetensors"):
        pass


def test_nothing_is_tracked_unless_asked(tmp_path: Path) -> None:
    with tracking(None, tmp_path / "a.safetensors") as tracker:
        assert tracker is None
    with pytest.raises(MCDMError, match="tensorboard, wandb"), tracking("paper", tmp_path / "a.safetensors"):
        pass
    assert not list(tmp_path.iterdir())
