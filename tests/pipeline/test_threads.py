"""Threads give way to other programs where that is faster, and come back."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from mcdm_core.pipeline.run import threads as threads_module
from mcdm_core.pipeline.run.threads import OtherLoad, Threads


class Machine:
    """Two cores, and other programs on them; tells the speed of a number of threads, and notes each change."""

    def __init__(self, speeds: dict[int, float], load: float | None) -> None:
        self.speeds, self.load = speeds, load
        self.changes: list[int] = []
        self.threads = Threads(2, lambda: self.load, self.changes.append)

    def clips(self, count: int) -> list[int]:
        """Numbers of threads of so many clips."""
        used = []
        for _ in range(count):
            used.append(self.threads.current)
            self.threads.clip_done(16, 16 / self.speeds[self.threads.current])
        return used


def test_all_threads_compute_where_nobody_else_does() -> None:
    for load in (0.1, None):
        machine = Machine({1: 20.0, 2: 5.0}, load)
        assert machine.clips(50) == [2] * 50 and machine.changes == []


@pytest.mark.parametrize(("speeds", "best"), [({1: 9.0, 2: 3.0}, 1), ({1: 5.0, 2: 8.0}, 2)])
def test_beside_others_the_faster_number_is_found_and_kept(speeds: dict[int, float], best: int) -> None:
    machine = Machine(speeds, 1.0)
    assert machine.clips(30)[11:] == [best] * 19
    assert len(machine.changes) <= 3


def test_beside_a_busy_program_fewer_threads_begin() -> None:
    machine = Machine({1: 9.0, 2: 3.0}, 1.0)
    machine.threads.begin()
    assert machine.clips(7) == [1] * 7, "a short video has no time for trials"
    for load in (0.1, 0.4, None):
        machine = Machine({1: 9.0, 2: 3.0}, load)
        machine.threads.begin()
        assert machine.threads.current == 2


def test_when_the_load_changes_the_choice_is_made_again() -> None:
    machine = Machine({1: 9.0, 2: 3.0}, 1.0)
    machine.clips(10)
    machine.load = 0.0
    assert machine.clips(5)[1:] == [2] * 4
    machine.load, machine.speeds = 1.9, {1: 3.0, 2: 4.0}
    assert machine.clips(20)[8:] == [2] * 12
    machine.speeds = {1: 9.0, 2: 3.0}
    assert 1 in machine.clips(60), "what was measured long ago is measured again"


def test_a_number_that_was_chosen_stays() -> None:
    changes: list[int] = []
    threads = Threads(2, lambda: 5.0, changes.append, fixed=True)
    for _ in range(10):
        threads.clip_done(16, 1.0)
    assert changes == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell the load")
def test_the_load_of_others_is_seen() -> None:
    other = OtherLoad()
    program = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10_000))"])
    try:
        time.sleep(2)
        busy = other()
    finally:
        program.kill()
        program.wait()
    assert busy is not None and busy > 0.05


def test_our_own_work_is_not_that_of_others(monkeypatch) -> None:
    told = iter([(0.0, 100.0, 5.0), (10.0, 115.0, 14.0), (10.05, 115.1, 14.0)])
    monkeypatch.setattr(threads_module, "_times", lambda: next(told))
    other = OtherLoad()
    assert other() == pytest.approx(0.6)
    assert other() is None, "too little time"


def test_the_number_of_before_comes_back() -> None:
    machine = Machine({1: 9.0, 2: 3.0}, 1.0)
    with machine.threads:
        assert machine.clips(10)[-1] == 1
    assert machine.changes[-1] == 2
