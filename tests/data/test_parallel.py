"""Pieces of work over processes: each done once, also when a process is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcdm_core.data.parallel import run_all
from mcdm_core.errors import MCDMError


@dataclass(frozen=True)
class Piece:
    """Squares a number; leaves a mark, and kills its process where it is told to, once or always."""

    folder: Path
    deadly: tuple[int, ...] = ()
    always: bool = False

    def __call__(self, number: int) -> int:
        mark = self.folder / f"{number}-{len(list(self.folder.glob(f'{number}-*')))}"
        mark.touch()
        if number in self.deadly and (self.always or mark.name.endswith("-0")):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 13:
            raise MCDMError("thirteen is refused")
        return number**2


def test_outcomes_and_reasons_in_one_process(tmp_path: Path) -> None:
    outcomes = list(run_all(Piece(tmp_path), [2, 13, 3]))
    assert [(o.number, o.value, o.error) for o in outcomes] == [
        (0, 4, ""),
        (1, None, "thirteen is refused"),
        (2, 9, ""),
    ]


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_killed_process_costs_nothing_and_one_that_always_dies_only_itself(tmp_path: Path) -> None:
    outcomes = {o.number: o for o in run_all(Piece(tmp_path, deadly=(2,)), list(range(5)), workers=2)}
    assert {n: o.value for n, o in outcomes.items()} == {n: n**2 for n in range(5)}
    (tmp_path / "again").mkdir()
    outcomes = {o.number: o for o in run_all(Piece(tmp_path / "again", (1,), always=True), [0, 1, 4], workers=2)}
    assert outcomes[0].value == 0 and outcomes[2].value == 16 and "died" in outcomes[1].error


def slow_beside_a_deadly_one(number: int) -> int:
    """Whichever piece shares a process pool with number 0 is under way when that dies."""
    if number == 0:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3)
    return number


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_no_piece_is_lost_for_running_beside_one_that_always_dies() -> None:
    outcomes = {o.number: o for o in run_all(slow_beside_a_deadly_one, [0, 1], workers=2)}
    assert outcomes[1].value == 1 and "died" in outcomes[0].error


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(MCDMError, match="'steam'"):
        list(run_all(Piece(tmp_path), [1], engine="steam"))


def test_a_ray_that_does_not_start_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    ray = types.ModuleType("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False, raising=False)
    monkeypatch.setattr(ray, "init", init, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", types.ModuleType("ray.data"))
    with pytest.raises(MCDMError, match=r"did not start .*timed out"):
        list(run_all(Piece(tmp_path), [2, 3], workers=2, engine="ray"))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_ray_gives_what_one_process_gives(tmp_path: Path) -> None:
    there = {o.number: (o.value, o.error) for o in run_all(Piece(tmp_path), [2, 13, 3], workers=2, engine="ray")}
    assert there == {0: (4, ""), 1: (None, "thirteen is refused"), 2: (9, "")}


def nap(seconds: float) -> float:
    """A piece that takes its time."""
    time.sleep(seconds)
    return seconds


def test_who_stops_does_not_wait_for_what_is_under_way() -> None:
    outcomes = run_all(nap, [0.0, 300.0], workers=2)
    assert next(outcomes).value == 0.0
    started = time.monotonic()
    outcomes.close()
    assert time.monotonic() - started < 60


def interrupted(number: int) -> int:
    """A piece in which Ctrl-C is pressed."""
    raise KeyboardInterrupt


def test_an_interruption_is_no_failure_of_a_piece() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(run_all(interrupted, [1, 2]))
