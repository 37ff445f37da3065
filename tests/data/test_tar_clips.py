"""Clips of tars are read by number, and become the labelled shards of the training stages."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.config import TINY
from mcdm_core.data.shards import ClipDataset
from mcdm_core.data.tar_clips import TarClips
from mcdm_core.errors import MCDMError, MediaError
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.training.parts.rows import FrameRows

from .tar_set import add_clip


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training tars of three and two clips, and one clip for validation."""
    folder = tmp_path_factory.mktemp("set")
    number = 0
    for split, counts in (("train", (3, 2)), ("val", (1,))):
        (folder / split).mkdir()
        for shard, count in enumerate(counts):
            with tarfile.open(folder / split / f"{split}-{shard:05d}.tar", "w") as tar:
                for _ in range(count):
                    add_clip(tar, f"clip{number}-0000", 6 + 2 * number, number)
                    number += 1
    return folder


def test_clips_are_read_by_number(curated: Path) -> None:
    clips = TarClips(sorted((curated / "train").glob("*.tar")), at_least=8)
    assert list(clips.frames) == [8, 10, 12, 14] and clips.told(3)["identity"] == "person 4"
    every = clips.pictures(1, range(10))
    assert every.shape == (10, 32, 32, 3) and np.array_equal(clips.pictures(1, [7, 3]), every[[7, 3]])
    assert clips.pictures(1, [0], size=16).shape == (1, 16, 16, 3)
    tone = (8000 * np.sin(np.arange(640 * 10) * 0.1 * 3)).astype(np.int16)
    assert np.array_equal(clips.sound(1), tone)
    assert clips.labels(2)["landmarks"].shape == (12, 68, 2)
    with pytest.raises(MediaError, match="clip1-0000"):
        clips.pictures(0, [7, 8])
    with pytest.raises(MediaError, match="100 frames"):
        TarClips(sorted((curated / "train").glob("*.tar")), at_least=100)


def test_a_damaged_tar_is_named(curated: Path, tmp_path: Path) -> None:
    whole = (curated / "train" / "train-00000.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="half.tar"):
        TarClips([tmp_path / "half.tar"])


def test_a_curated_set_becomes_labelled_shards(curated: Path, tmp_path: Path) -> None:
    command = ["label-data", "--curated", str(curated), "--output", str(tmp_path), "--size", "16"]
    assert main(command) == 0
    shards = ClipDataset(tmp_path / "train")
    clips = TarClips(sorted((curated / "train").glob("*.tar")))
    assert len(shards) == len(clips) == 5 and len(ClipDataset(tmp_path / "val")) == 1
    for index in range(5):
        clip, info = shards[index], shards.info(index)
        assert info["identity"] == f"person {index}" and info["language"] == "de" and info["split"] == "train"
        assert np.array_equal(clip["landmarks"].numpy(), clips.labels(index)["landmarks"])
        assert np.array_equal(clip["audio"].numpy(), clips.sound(index))
        assert np.array_equal(clip["frames"].numpy(), clips.pictures(index, range(6 + 2 * index), 16))
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == made


def test_a_folder_that_is_not_curated_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label-data", "--curated", str(tmp_path), "--output", str(tmp_path / "out")]) != 0
    assert "curate" in capsys.readouterr().err


def test_the_painter_trains_on_tars_as_on_shards(curated: Path) -> None:
    config, folder = TINY, curated / "train"
    codec = MCDMPipeline.from_config(config).model.motion_codec
    clips = TarClips(sorted(folder.glob("*.tar")))
    rows = FrameRows([folder], codec, config.image_size, minimum=1)
    assert [clip.length for clip in rows.clips] == clips.frames.tolist()
    last = rows.clips[-1]
    wanted = clips.pictures(len(clips) - 1, [2], config.image_size)[0]
    assert torch.equal(rows.pictures[last.first + 2], torch.from_numpy(wanted))
    landmarks = torch.from_numpy(clips.labels(len(clips) - 1)["landmarks"])
    torch.testing.assert_close(rows.landmarks[last.first : last.first + last.length], landmarks.float())
    assert not any(clip.still for clip in rows.clips)


def test_a_folder_that_is_not_there_is_told_as_an_empty_one(tmp_path: Path) -> None:
    codec = MCDMPipeline.from_config(TINY).model.motion_codec
    with pytest.raises(MCDMError, match="No clip of at least 8 frames lies in"):
        FrameRows([tmp_path / "missing"], codec, TINY.image_size, minimum=8)
