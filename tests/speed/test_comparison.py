"""An old checkout and this one take turns, and are asked for the same work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison.__main__ import Time, Way
from benchmarks.comparison.worker import Work
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait, default_voice

WAYS = [Way(name, Path(), None, "float32", None) for name in ("before", "now")]


class Fake:
    """A worker that notes when it was asked, and is slower when it is asked for the first time."""

    def __init__(self, name: str, asked: list[tuple[str, str]]) -> None:
        self.name, self.asked, self.cost = name, asked, 100.0

    def time(self, part: str, size: int) -> Time:
        self.asked.append((part, self.name))
        taken, self.cost = self.cost, 2.0 if self.name == "before" else 1.0
        return Time(taken, taken)


def test_checkouts_take_turns_and_the_first_turn_does_not_count() -> None:
    asked: list[tuple[str, str]] = []
    running = {way.name: Fake(way.name, asked) for way in WAYS}
    times = comparison.in_turns(running, ["finish"], 384, repeats=3)  # pyright: ignore[reportArgumentType]
    assert asked == [("finish", "before"), ("finish", "now")] * 4
    case = {"size": 384, "neighbours": 0}
    rows = comparison.rows(times, WAYS, case)
    assert [(row["way"], row["cpu_ms"], row["gain"]) for row in rows] == [("before", 2.0, 1.0), ("now", 1.0, 2.0)]
    assert len(rows[0]["times"]) == 3


def test_a_frame_is_the_sum_of_its_parts_beside_the_same_neighbours() -> None:
    case = {"size": 384, "neighbours": 1}
    times = {
        (part, way.name): [Time(10.0, 4.0 / rate)] for part in comparison.A_FRAME for rate, way in enumerate(WAYS, 1)
    }
    rows = comparison.rows(times, WAYS, case)
    frame = comparison.of_a_frame(rows, WAYS, case)
    assert [(row["ms"], row["cpu_ms"], row["gain"]) for row in frame] == [(40.0, 16.0, 1.0), (40.0, 8.0, 2.0)]
    assert not comparison.of_a_frame(rows, WAYS, {"size": 384, "neighbours": 4})
    # What does not depend on the size is taken from the first one.
    larger = comparison.rows(
        {k: v for k, v in times.items() if k[0] in comparison.OF_A_SIZE}, WAYS, case | {"size": 1080}
    )
    assert comparison.of_a_frame(rows + larger, WAYS, case | {"size": 1080})


@pytest.mark.parametrize("steps", [None, 1])
def test_a_worker_makes_every_part(pipe: MCDMPipeline, steps: int | None) -> None:
    given = {"portrait": default_portrait(), "voice": default_voice(), "steps": steps, "box": (60, 60, 190, 190)}
    work = Work(pipe, given, 256)
    assert max(work.frames[0].shape[-2:]) == 256 and work.frames[0].dtype == torch.uint8
    made = {name: call() for name, call in work.parts().items()}
    count = pipe.config.clip_frames
    assert made.pop("audio") == work.sound.num_frames
    assert made == {"read": 1, "face": 1, "motion": count, "pictures": count, "finish": count, "encode": count}
    assert set(work.parts()) == set(comparison.PARTS) - set(comparison.WHOLE)
