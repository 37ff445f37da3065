"""Sync-D and Sync-C: of features whose offset is known, and what the two networks are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from mcdm_core.errors import MediaError, WeightsError
from mcdm_core.face.crops import CropTransform
from mcdm_core.published.sync_net import (
    LARGEST_OFFSET,
    face_square,
    lip_features,
    offset_curve,
    scores_of,
    voice_windows,
)


def test_the_offset_of_sound_is_found_and_another_voice_is_not_believed() -> None:
    random = np.random.default_rng(0)
    said = random.normal(size=(200, 16)).cumsum(0) / 5  # features that follow one another
    for late in (0, 4, -7):
        scores = scores_of(offset_curve(said, np.roll(said, late, 0)))
        assert scores.offset == -late
        assert scores.distance < 0.8
        assert scores.confidence > 1
    other = random.normal(size=(200, 16)).cumsum(0) / 5
    wrong = scores_of(offset_curve(said, other))
    assert wrong.distance > 2 and wrong.confidence < 1


def test_the_curve_is_the_mean_distance_offset_by_offset() -> None:
    lips, voice = np.zeros((10, 3)), np.zeros((10, 3))
    voice[:, 0] = np.arange(10)
    curve = offset_curve(lips, voice)
    assert len(curve) == 2 * LARGEST_OFFSET + 1
    assert curve[LARGEST_OFFSET] == pytest.approx(4.5, abs=1e-4)
    assert curve[LARGEST_OFFSET + 9] == pytest.approx(0.9, abs=1e-4), "beyond the end the sound's features are zero"


@dataclass
class Middle:
    """A network of lips whose features are the middle pixel of the middle frame."""

    shape: tuple[int | None, ...] = (3, 5, 224, 224)
    name: str = "lips.onnx"
    shown: list[torch.Tensor] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return len(self.shape) + 1

    def __call__(self, clips: torch.Tensor) -> np.ndarray:
        self.shown.append(clips)
        return clips[:, :, 2, 112, 112].double().numpy()


def test_lips_are_shown_five_frames_at_a_time_from_blue_to_red() -> None:
    frames = [torch.tensor([0.1, 0.2, 0.3 + k / 1000])[:, None, None].expand(3, 100, 100) for k in range(40)]
    network = Middle()
    features = lip_features(network, frames, CropTransform(10, 10, 80, 100, 100))
    assert features.shape == (36, 3)
    assert features[0] == pytest.approx([(0.3 + 0.002) * 255, 51.0, 25.5], abs=1e-3)
    assert features[-1, 0] == pytest.approx((0.3 + 0.037) * 255, abs=1e-3)
    with pytest.raises(MediaError, match="at least 5"):
        lip_features(network, frames[:4], CropTransform(10, 10, 80, 100, 100))
    with pytest.raises(WeightsError, match="network of lips"):
        lip_features(Middle((3, 224, 224)), frames, CropTransform(10, 10, 80, 100, 100))


def test_the_square_is_wider_than_the_face_and_lower() -> None:
    square = face_square(CropTransform(100, 100, 100, 400, 400))  # a face of 60 pixels around (150, 150)
    assert (square.side, square.left) == pytest.approx((84, 108))
    assert square.top == pytest.approx(120), "it begins where the face does"
    assert square.top + square.side == pytest.approx(150 + 1.8 * 30)


def test_voices_are_heard_a_fifth_of_a_second_at_a_time() -> None:
    pytest.importorskip("python_speech_features", reason="makes the cepstrum")
    time = torch.arange(16_000 * 2) / 16_000
    sound = torch.where(time < 1, 0.5 * torch.sin(2 * torch.pi * 440 * time), torch.zeros(()))
    windows = voice_windows(sound, 46)
    assert windows.shape == (46, 1, 13, 20)
    # The next window begins a frame, four steps, later.
    assert torch.equal(windows[0, ..., 4:], windows[1, ..., :-4])
    loudness = windows[:, 0, 0].mean(-1)
    assert float(loudness[10]) > float(loudness[30]) + 5, "the tone ends after 25 frames"
    assert voice_windows(sound[:8000], 46).shape == (46, 1, 13, 20), "silence follows the end"
