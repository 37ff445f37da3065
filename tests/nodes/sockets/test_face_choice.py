"""Masks, boxes and numbers that say which face of a portrait is meant; and old runs on disk."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ..fixtures import pack_module

face_choice = pack_module("sockets.face_choice")
media_bridge = pack_module("comfy.media.media_bridge")
old_runs = pack_module("jobs.old_runs")
NodeRun = pack_module("comfy.page.node_run").NodeRun
NO_BOX = (0.0, 0.0, 0.0, 0.0)
PORTRAIT = torch.zeros(3, 300, 384)


class Two:
    """A pipeline that sees two faces."""

    def detect_faces(self, image: torch.Tensor) -> list[tuple[float, ...]]:
        return [(10.0, 10.0, 110.0, 110.0), (200.0, 20.0, 260.0, 80.0)]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(face_choice, "note", lambda run, text: said.append(text))
    return said


def choose(mask: Any = None, box: Any = NO_BOX, number: int = 1) -> Any:
    return face_choice.choose_face(NodeRun("1"), Two(), PORTRAIT, mask, box, number)


def test_a_box_beyond_the_picture_is_clipped_with_a_note(notes: list[str]) -> None:
    assert choose(box=(0.0, 0.0, 3000.0, 3000.0)) == (0, 0, 384, 300)
    assert len(notes) == 1 and "384x300" in notes[0]
    assert choose(box=(20.0, 30.0, 120.0, 140.0)) == (20, 30, 120, 140) and len(notes) == 1


@pytest.mark.parametrize("box", [(100.0, 0.0, 50.0, 90.0), (16384.0, 16384.0, 16384.0, 16384.0)])
def test_an_empty_box_is_refused_in_the_words_of_the_widgets(box: Any, notes: list[str]) -> None:
    with pytest.raises(face_choice.MediaError, match="box_left") as caught:
        choose(box=box)
    assert "--" not in str(caught.value)


def test_a_box_outside_is_refused(notes: list[str]) -> None:
    with pytest.raises(face_choice.MediaError, match="outside the picture"):
        choose(box=(5000.0, 5000.0, 5100.0, 5100.0))


def test_a_mask_gives_the_box_it_marks_in_the_picture_s_pixels(notes: list[str]) -> None:
    mask = torch.zeros(1, 150, 192)  # half the picture's size
    mask[0, 20:60, 50:100] = 1
    assert choose(mask) == (100, 40, 200, 120)
    assert choose(mask[0]) == (100, 40, 200, 120) and notes == []


def test_a_mask_that_marks_nothing_falls_back_with_a_note(notes: list[str]) -> None:
    assert choose(torch.zeros(1, 64, 64)) is None
    assert len(notes) == 1 and "marks nothing" in notes[0]
    assert choose(torch.zeros(1, 64, 64), box=(20.0, 30.0, 120.0, 140.0)) == (20, 30, 120, 140)


def test_the_transparency_of_a_cut_out_portrait_is_no_mask_of_the_face(notes: list[str]) -> None:
    mask = torch.ones(1, 300, 384)
    mask[0, 40:, 100:290] = 0  # a person's outline
    assert choose(mask) is None and notes == []
    assert not media_bridge.is_background_mask(torch.ones(1, 64, 64)), "wholly painted"


def test_a_face_is_chosen_by_its_number(notes: list[str]) -> None:
    assert choose() is None, "the largest is what the pipeline takes anyway"
    assert choose(number=2) == (200, 20, 260, 80)
    with pytest.raises(face_choice.FaceNotFoundError, match="face_number is 3, but 2 faces"):
        choose(number=3)


def test_what_a_run_writes_today_is_known(tmp_path: Path) -> None:
    core = "mcdm_pack_under_test.mcdm_core"
    run_folder = importlib.import_module(f"{core}.pipeline.run.run_folder")
    with run_folder.RunFolder(tmp_path / "video_1"):
        pass
    (tmp_path / "video_1" / run_folder.JOURNAL).touch()
    assert [run.path.name for run in old_runs.find_runs(tmp_path, time.time())] == ["video_1"]


@pytest.mark.parametrize("mark", ["journal.jsonl", "state.json"])
def test_only_folders_that_are_runs_and_nothing_else_count(tmp_path: Path, mark: str) -> None:
    for name, extra in (("mcdm/video_1", None), ("mcdm/video_2", "holiday.jpg"), ("elsewhere", None)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if name != "elsewhere":
            (folder / mark).write_text("{}")
            (folder / "lock").touch()
        (folder / "clip_00000.mp4").write_bytes(bytes(1000))
        if extra:
            (folder / extra).write_bytes(b"mine")
    old = time.time() - 10 * 86_400
    for path in (tmp_path / "mcdm/video_1").iterdir():
        os.utime(path, (old, old))
    (found,) = old_runs.find_runs(tmp_path, time.time())
    assert found.path.name == "video_1" and found.size == 1002 and 9.9 < found.days < 10.1
    report = old_runs.table([found], tmp_path, "Would be deleted")
    assert report.startswith("Would be deleted: 1 runs") and "mcdm/video_1" in report


def test_a_run_that_is_being_made_or_cannot_be_deleted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = "mcdm_pack_under_test.mcdm_core"
    run_folder = importlib.import_module(f"{core}.pipeline.run.run_folder")
    for name in ("old", "held", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / run_folder.JOURNAL).write_text("{}")
    real = old_runs.shutil.rmtree

    def rmtree(path: Path) -> None:
        if path.name == "open":
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    monkeypatch.setattr(old_runs.shutil, "rmtree", rmtree)
    with run_folder.RunFolder(tmp_path / "held"):
        (tmp_path / "held" / run_folder.JOURNAL).touch()
        deleted, stay = old_runs.delete_runs(old_runs.find_runs(tmp_path, time.time()))
    assert [run.path.name for run in deleted] == ["old"] and not (tmp_path / "old").exists()
    assert sorted(stay) == ["held stays: a program is making it at this moment", "open stays: Permission denied"]
    assert (tmp_path / "held").is_dir() and (tmp_path / "open" / run_folder.JOURNAL).is_file()
