"""ComfyUI's interrupt within the nodes' work on large pictures, on a stand-in for its model management."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mcdm_core.face.compositing.crop import move_surroundings

from .fixtures import counted_frames, pack_module, tone

interruption = pack_module("comfy.interruption")
temporary_video = pack_module("comfy.media.temporary_video")


class Cancelled(BaseException):
    """As ComfyUI's own on its newer versions: no Exception."""


class Cancel:
    """The user presses Cancel when it has been asked for so many times."""

    def __init__(self) -> None:
        self.asked = 0
        self.after: float = float("inf")

    def ask(self) -> None:
        self.asked += 1
        if self.asked > self.after:
            raise Cancelled


@pytest.fixture
def cancel(monkeypatch: pytest.MonkeyPatch) -> Cancel:
    """ComfyUI's model management, as far as the nodes ask it."""
    state, management = Cancel(), ModuleType("comfy.model_management")
    management.throw_exception_if_processing_interrupted = state.ask
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    return state


def test_a_frame_can_be_stopped_in_its_middle(cancel: Cancel) -> None:
    picture, still = torch.rand(3, 96, 96), torch.rand(68, 2) * 0.5 + 0.25
    moved = still[None] + 0.01 * torch.randn(1, 68, 2)
    plain = move_surroundings(picture, moved, still)
    with interruption.StoppableTorch():
        assert torch.equal(move_surroundings(picture, moved, still), plain)
    calls = cancel.asked
    assert calls > 20
    cancel.asked, cancel.after = 0, calls // 2
    with pytest.raises(Cancelled), interruption.StoppableTorch():
        move_surroundings(picture, moved, still)
    cancel.after = float("inf")
    asked = cancel.asked
    torch.rand(2) + 1
    assert cancel.asked == asked, "nothing is asked once the block is left, also by an interruption"


class Layer(torch.nn.Module):
    """Computes in several calls; ComfyUI would have lent it its weights meanwhile."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > 4:
            raise ValueError("too large")
        return (x + 1).mul(2).sub(1)


def test_a_layer_is_stopped_before_it_begins_and_never_inside(cancel: Cancel) -> None:
    model = torch.nn.Sequential(Layer(), Layer())
    x = torch.zeros(3)
    with interruption.interruptible(model), interruption.StoppableTorch():
        begin = cancel.asked
        model(x)
        assert cancel.asked - begin == 2
        begin = cancel.asked
        torch.add(x, 1)
        assert cancel.asked - begin == 1
    with pytest.raises(ValueError), interruption.interruptible(model):
        model(torch.zeros(9))
    with interruption.StoppableTorch():
        begin = cancel.asked
        torch.add(x, 1)
        assert cancel.asked - begin == 1, "a layer that failed does not silence what follows"


def test_items_are_made_stoppable_and_used_freely(cancel: Cancel) -> None:
    def items() -> Iterator[torch.Tensor]:
        for value in range(3):
            yield torch.zeros(2) + value

    seen = []
    for item in interruption.stoppable(items()):
        asked = cancel.asked
        seen.append(float(item.sum()))
        assert cancel.asked == asked
    assert seen == [0.0, 2.0, 4.0] and cancel.asked >= 6


def read(path: Path) -> tuple[int, float]:
    """Number of frames, and length of the sound in seconds."""
    import av

    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        return sum(1 for _ in container.decode(video=0)), float(sound.duration * sound.time_base)


def test_a_temporary_video_is_whole_at_its_end(cancel: Cancel, tmp_path: Path) -> None:
    path = tmp_path / "whole.mp4"
    with temporary_video.TemporaryVideoWriter(path, 32, 32, 25, tone(1.2)) as writer:
        writer.write(counted_frames(0, 30))
    frames, seconds = read(path)
    assert frames == writer.frames_written == 30 and abs(seconds - 1.2) < 1 / 25
    assert cancel.asked > 5, "between the frames that the encoder had held back"


@pytest.mark.parametrize("when", ["while writing", "at the end", "before the first frame"])
def test_a_stopped_temporary_video_leaves_nothing(cancel: Cancel, tmp_path: Path, when: str) -> None:
    path = tmp_path / "stopped.mp4"
    with pytest.raises(Cancelled), temporary_video.TemporaryVideoWriter(path, 32, 32, 25, tone(1.2)) as writer:
        if when != "before the first frame":
            writer.write(counted_frames(0, 30))
        cancel.after = cancel.asked
        if when != "at the end":
            interruption.check_interrupt()
    assert not path.exists()
    assert cancel.asked == cancel.after + 1, "no further packet after the interruption"
