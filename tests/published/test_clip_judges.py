"""Published networks that judge clips of a curation: with stand-ins for the networks, on videos of plain frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.data.wild.settings import CurateSettings
from mcdm_core.data.wild.sound import check_rate, syncnet_fault
from mcdm_core.errors import MediaError, WeightsError
from mcdm_core.published.clip_judges import JudgeFiles, Judges
from mcdm_core.published.sync_net import FRAMES
from tests.media.plain_videos import grey_video


@dataclass
class Grey:
    """A network whose features are how grey each picture is, by frames and by steps of sound."""

    shape: tuple[int | None, ...]
    numbers: int = 1
    name: str = "grey.onnx"

    @property
    def rank(self) -> int:
        return len(self.shape) + 1

    def __call__(self, given: torch.Tensor) -> np.ndarray:
        grey = given.flatten(1).mean(1, keepdim=True).double()
        return grey.expand(-1, self.numbers).numpy()


def test_the_quality_of_a_clip_is_the_mean_of_its_seconds(tmp_path: Path) -> None:
    clip = grey_video(tmp_path / "clip.mp4", torch.arange(76) / 100, 32, 32)  # frames 0, 25, 50 and 75 count
    found = Judges(quality=Grey((3, 16, 16))).picture_quality(clip)
    assert found == pytest.approx((0 + 0.25 + 0.5 + 0.75) / 4 * 255, abs=3)
    with pytest.raises(WeightsError, match="gives 7 numbers"):
        Judges(quality=Grey((3, 16, 16), numbers=7)).picture_quality(clip)
    assert Judges().picture_quality(clip) is None and Judges().sync(clip, torch.zeros(16_000)) is None


class Flashes:
    """A network of voices that hears the flashes of :func:`test_a_sound_that_comes_late_is_out_of_step`."""

    def __init__(self, levels: torch.Tensor, late: int) -> None:
        self.levels, self.late = levels, late

    def __call__(self, windows: torch.Tensor) -> np.ndarray:
        told = self.levels.roll(self.late).unfold(0, FRAMES, 1).mean(1)[: len(windows), None]
        return (told * 255).double().numpy()


@pytest.mark.parametrize(("late", "fault"), [(0, ""), (3, ""), (6, "out of step"), (-9, "out of step")])
def test_a_sound_that_comes_late_is_out_of_step(late: int, fault: str, tmp_path: Path) -> None:
    pytest.importorskip("python_speech_features", reason="makes the cepstrum")
    levels = torch.rand(75, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    clip = grey_video(tmp_path / "clip.mp4", levels, 32, 32)
    judges = Judges(syncnet=(Grey((3, FRAMES, 32, 32)), Flashes(levels, late)))
    scores = judges.sync(clip, torch.zeros(48_000))
    assert scores is not None and scores.offset == -late
    assert syncnet_fault(scores, CurateSettings()) == fault
    assert syncnet_fault(scores, CurateSettings(min_sync_c=1e6)) == "not the speaker"


def test_results_of_other_networks_are_kept_apart(tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
        files.append(JudgeFiles(quality=tmp_path / name))
    settings = CurateSettings()
    prints = {settings.fingerprint(of.digests()) for of in (*files, JudgeFiles())}
    assert len(prints) == 3
    pair = JudgeFiles(syncnet=(tmp_path / "one", tmp_path / "other"))
    check_rate(pair, settings)
    with pytest.raises(MediaError, match="25 frames a second alone"):
        check_rate(pair, CurateSettings(fps=30))
