"""How many threads compute, while other programs come and go.

Threads of a matrix product wait for the slowest of them, at full load. Where another program holds a core, one thread
fewer is often faster than all, several times at worst. The likelier number computes first, the other is tried when
some clips are made, and the faster one stays until the load changes. Only for programs that own their process; torch's
number of threads counts for all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch

_QUIET = 0.25
"""Cores kept busy by others up to which all threads are used."""
_HELD = 0.6
"""The same from which fewer threads are likely to be faster, and compute first."""
_CHANGE = 0.5
"""Change of the others' load, in cores, after which what was measured counts no longer."""
_TRIAL, _SETTLED, _AGAIN = 2, 8, 40
"""Clips in a trial, clips before the less likely number is tried, and clips after which both are tried again."""


class Threads:
    """Chooses torch's number of threads from clip to clip; as a context manager it brings the former one back.

    Args:
        most: threads where nobody else computes; by default torch's own number.
        others: cores that other programs have kept busy since it was last asked; None: unknown, and all threads stay.
        use: sets the number.
        fixed: the number was chosen by somebody, and stays.
    """

    def __init__(
        self,
        most: int | None = None,
        others: Callable[[], float | None] | None = None,
        use: Callable[[int], None] = torch.set_num_threads,
        *,
        fixed: bool = False,
    ) -> None:
        self.most, self.fixed = most or torch.get_num_threads(), fixed
        self.current = self.most
        self._others, self._use = others or OtherLoad(), use
        self._load, self._since = 0.0, 0
        self._speeds: dict[int, list[float]] = {}

    def begin(self) -> None:
        """Choose the number for the first clip, by what other programs did while this one was getting ready."""
        if self.fixed or self.most == 1:
            return
        load = self._others()
        if load is not None and load >= _QUIET:
            self._load = load
            self._switch(self._by_likelihood(load)[0])

    def _by_likelihood(self, load: float) -> tuple[int, int]:
        fewer = max(1, self.most - round(max(load, 1.0)))
        return (fewer, self.most) if load >= _HELD else (self.most, fewer)

    def clip_done(self, frames: int, seconds: float) -> None:
        """Take note of a clip's speed, and choose the number of threads for the next one."""
        if self.fixed or self.most == 1:
            return
        load = self._others()
        if load is None or load < _QUIET:
            self._speeds.clear()
            self._switch(self.most)
            return
        if abs(load - self._load) > _CHANGE or self._since >= _AGAIN:
            self._load, self._since = load, 0
            self._speeds.clear()
        self._since += 1
        self._speeds.setdefault(self.current, []).append(frames / max(seconds, 1e-9))
        likely, other = self._by_likelihood(self._load)
        if len(self._speeds.get(likely, [])) < _TRIAL or self._since < _SETTLED:
            self._switch(likely)
        elif len(self._speeds.get(other, [])) < _TRIAL:
            self._switch(other)
        else:
            self._switch(max(self._speeds, key=lambda number: max(self._speeds[number][-_TRIAL:])))

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *failure: object) -> None:
        self._switch(self.most)

    def _switch(self, number: int) -> None:
        if number != self.current:
            self.current = number
            self._use(number)


class OtherLoad:
    """Cores that other programs kept busy since the last call, of those that this process may use (Linux)."""

    def __init__(self) -> None:
        self._before = _times()

    def __call__(self) -> float | None:
        """None where the system does not tell, or too little time has passed."""
        before, now = self._before, _times()
        if before is None or now is None:
            return None
        wall, busy, own = (b - a for a, b in zip(before, now, strict=True))
        if wall < 0.1:
            return None
        self._before = now
        return max(0.0, (busy - own) / wall)


def _times() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of all programs on our cores, and our own."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        ours, tick = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
        busy = 0
        for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in ours:
                user, nice, system, _, _, interrupts, soft = map(int, counts[:7])
                busy += user + nice + system + interrupts + soft
        used = os.times()
        return used.elapsed, busy / tick, used.user + used.system
    return None
