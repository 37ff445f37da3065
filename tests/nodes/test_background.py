"""A second face in a video of the first: frames in step, sizes, and the sound of both."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .fixtures import pack_module, tone

background = pack_module("comfy.media.background")
PORTRAIT = torch.full((3, 31, 40), 0.5)


def beneath(monkeypatch: pytest.MonkeyPatch, frames: list[torch.Tensor], made: list[torch.Tensor]) -> list[Any]:
    monkeypatch.setattr(background.media_bridge, "frames_at_rate", lambda video, fps: iter(frames))
    return list(background.Background("a video", PORTRAIT, 25.0).beneath(iter(made)))


def face(level: float) -> torch.Tensor:
    """The portrait with its right side at a level, as Assemble Video makes it."""
    frame = PORTRAIT[None].clone()
    frame[..., 30:] = level
    return frame


def test_each_frame_joins_the_one_of_its_moment_and_the_last_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # An odd side is one longer in a video.
    frames = [torch.full((3, 32, 40), level) for level in (0.1, 0.3)]
    joined = beneath(monkeypatch, frames, [face(0.6), face(0.7), face(0.8)])
    assert [round(float(frame[0, 0, 0, 0]), 3) for frame in joined] == [0.1, 0.3, 0.3]
    assert [round(float(frame[0, 0, 0, -1]), 3) for frame in joined] == [0.2, 0.5, 0.6]
    assert all(frame.shape == (1, 3, 31, 40) for frame in joined)


@pytest.mark.parametrize(("frames", "words"), [([torch.zeros(3, 64, 64)], "64x64"), ([], "no frames")])
def test_a_video_of_another_picture_is_refused(monkeypatch: pytest.MonkeyPatch, frames: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        beneath(monkeypatch, frames, [face(0.6)])


def test_both_voices_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = tone(1.0), tone(2.0)
    monkeypatch.setattr(background.media_bridge, "video_audio", lambda video: high)
    mixed = background.mixed_sound(low, "a video")
    assert mixed.waveform.shape[-1] == high.waveform.shape[-1]
    assert float(mixed.waveform[0, :40_000].abs().max()) > 0.55 and float(mixed.waveform[0, 50_000:].abs().max()) < 0.31
    assert background.mixed_sound(None, "a video") is high
