"""Clips are painted while the next ones are denoised: in order, none lost, the first one without waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.run.overlap import while_the_next

CPU = torch.device("cpu")


def test_a_clip_is_painted_while_the_next_one_is_denoised() -> None:
    painting, denoising = threading.Event(), threading.Event()

    def denoised() -> Iterator[int]:
        yield 0
        yield 1
        denoising.set()  # the third clip is denoised ...
        assert painting.wait(10), "nothing was painted meanwhile"
        yield 2

    def paint(clip: int) -> int:
        if clip == 1:
            painting.set()
            assert denoising.wait(10)  # ... while the second one is painted
        return clip

    assert list(while_the_next(paint, denoised(), CPU, overlap=True)) == [0, 1, 2]


def test_the_first_clip_waits_for_no_other() -> None:
    asked: list[int] = []
    made = while_the_next(lambda clip: clip, (asked.append(i) or i for i in range(3)), CPU, overlap=True)
    assert next(made) == 0 and asked == [0]


@pytest.mark.parametrize("stop", [ValueError("broken"), KeyboardInterrupt()])
def test_what_was_begun_is_given_before_a_failure(stop: BaseException) -> None:
    def denoised() -> Iterator[int]:
        yield from range(3)
        raise stop

    made, got = while_the_next(lambda clip: clip, denoised(), CPU, overlap=True), []
    with pytest.raises(type(stop)):
        for clip in made:
            got.append(clip)
    assert got == [0, 1, 2]


def test_a_failure_of_painting_is_raised() -> None:
    def paint(clip: int) -> int:
        if clip == 1:
            raise ValueError("broken")
        return clip

    with pytest.raises(ValueError, match="broken"):
        list(while_the_next(paint, iter(range(3)), CPU, overlap=True))


def test_a_whole_video_is_the_same(pipe: MCDMPipeline, reference, voice, monkeypatch) -> None:
    sound = pipe.embed_audio(voice, 16_000)
    plain = list(pipe.generate(reference, sound))
    from mcdm_core.pipeline import pipeline

    monkeypatch.setattr(pipeline, "while_the_next", lambda *given: while_the_next(*given, overlap=True))
    for one, other in zip(plain, pipe.generate(reference, sound), strict=True):
        assert torch.equal(one.frames, other.frames) and one.index == other.index
        state, same = one.memory.tensors(), other.memory.tensors()
        assert all(torch.equal(state[name], same[name]) for name in state)
