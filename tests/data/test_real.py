"""Real material: labelling videos and portraits to shards, by the library and by the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.data.real import video as real_video
from mcdm_core.data.real.files import list_files
from mcdm_core.data.real.video import RealClip, at_rate
from mcdm_core.data.shards import SAMPLE_RATE, ClipDataset
from mcdm_core.errors import MediaError
from mcdm_core.media.audio import Audio
from mcdm_core.media.pixels import frames_to_unit, to_bytes, to_unit, unit_to_frames
from mcdm_core.media.portrait import load_portrait
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.samples import default_portrait


def test_pixels_go_to_the_models_range_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert to_unit(every).min() == -1 and to_unit(every).max() == 1
    torch.testing.assert_close(to_bytes(to_unit(every)), every)
    assert to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    frames = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    unit = frames_to_unit(frames)
    assert unit.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(unit_to_frames(unit), frames)


def test_a_fifth_at_most_is_kept_apart(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / f"{index}.png").touch()
    train, val = list_files(tmp_path, (".png",), "pictures", 50)
    assert [p.stem for p in val] == ["8", "9"] and len(train) == 8
    assert len(list_files(tmp_path, (".png",), "pictures", 1)[1]) == 1
    with pytest.raises(MediaError, match="no folder"):
        list_files(tmp_path / "none", (".png",), "pictures", 1)


def test_clips_of_other_rates_become_25_frames_a_second() -> None:
    frames = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    clip = at_rate(RealClip("a", frames, np.zeros(32000, np.int16), 30.0))
    assert clip.fps == 25 and len(clip.frames) == 50 and len(clip.audio) == 32000
    # The frame on screen at the middle of each new one.
    np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], ((np.arange(50) + 0.5) / 25 * 30).astype(int))
    assert at_rate(clip) is clip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of the sample portrait at 30 frames a second, and one that shows nobody."""
    folder = tmp_path_factory.mktemp("videos")
    portrait = load_portrait(default_portrait())[None]
    picture = torch.nn.functional.interpolate(portrait, (256, 256), mode="area")
    sound = torch.sin(torch.arange(8000) * 0.05)[None] * 0.1
    for name, frame in (("a", picture), ("b", picture.flip(3)), ("c", torch.full_like(picture, 0.3))):
        with VideoWriter(folder / f"{name}.mp4", 256, 256, 30, Audio(sound, SAMPLE_RATE)) as writer:
            writer.write(frame.expand(12, -1, -1, -1))
    return folder


def test_label_data_writes_videos_and_goes_on(videos: Path, tmp_path: Path, capsys, monkeypatch, caplog) -> None:
    arguments = ["label-data", "--videos", str(videos), "--output", str(tmp_path / "real"), "--licence", "CC0"]
    assert main(arguments) == 0
    assert "2 training clips" in capsys.readouterr().out
    assert any("c.mp4 left out" in message for message in caplog.messages)
    data = ClipDataset(tmp_path / "real" / "train")
    assert len(data) == 2 and data.info(0)["fps"] == 25 and data.info(0)["licence"] == "CC0"
    assert {data.info(i)["identity"] for i in range(2)} == {"a", "b"}
    sample = data[0]
    assert sample["frames"].shape == (10, 128, 128, 3) and sample["audio"].shape == (6400,)
    lips, eyes = sample["landmarks"][:, :20].mean((0, 1)), sample["landmarks"][:, 20:36].mean((0, 1))
    assert 0.15 < eyes[1] < lips[1] < 0.9 and 0.3 < float(lips[0]) < 0.7

    def refuse(*_: object) -> None:
        raise AssertionError("the clip was labelled already")

    monkeypatch.setattr(real_video, "read_clip", refuse)
    assert main(arguments) == 0
    assert "2 training clips" in capsys.readouterr().out


def test_label_data_makes_clips_of_stills(tmp_path: Path, capsys) -> None:
    (tmp_path / "stills").mkdir()
    shutil.copy(default_portrait(), tmp_path / "stills" / f"me{default_portrait().suffix}")
    arguments = ["label-data", "--stills", str(tmp_path / "stills"), "--output", str(tmp_path / "out"), "--frames", "5"]
    assert main(arguments) == 0
    data = ClipDataset(tmp_path / "out" / "train")
    assert data.info(0)["source"] == "still" and data.info(0)["identity"] == "me"
    sample = data[0]
    assert sample["frames"].shape == (5, 128, 128, 3) and sample["audio"].shape == (3200,)
    assert not sample["audio"].any()
    assert (sample["landmarks"][0] - sample["landmarks"][4]).abs().max() > 1e-3
    again = [*arguments, "--again"]
    assert main(again) == 0
    torch.testing.assert_close(ClipDataset(tmp_path / "out" / "train")[0]["frames"], sample["frames"])


def test_label_data_says_what_is_missing(tmp_path: Path, videos: Path, capsys) -> None:
    assert main(["label-data", "--videos", str(tmp_path / "none"), "--output", str(tmp_path)]) == 1
    assert "none" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["label-data", "--stills", str(tmp_path / "empty"), "--output", str(tmp_path)]) == 1
    shutil.copy(videos / "c.mp4", tmp_path / "empty" / "c.mp4")
    assert main(["label-data", "--videos", str(tmp_path / "empty"), "--output", str(tmp_path / "x")]) == 1
    assert "could be labelled" in capsys.readouterr().err
    assert not list((tmp_path / "x").rglob("*.safetensors"))
