"""What a kill, a full disk, too little memory, a damaged file or a second writer costs: nothing that was finished.

The whole harness is ``MCDM_FAULTS=500 python -m pytest -s -m slow tests/faults``,
of each kind as many as ``MCDM_FAULTS_SECONDS`` allows.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mcdm_core.errors import MCDMError
from mcdm_core.media.video_reader import VideoReader
from mcdm_core.pipeline.run.finished_clip import FinishedClip
from mcdm_core.pipeline.run.run_folder import RunFolder

from .attempts import Tally, attempt, moments
from .setting import Setting, check_run, finished, grow, grow_under

# Forks of a process with torch's threads may hang on some machines: not among the quick tests.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks and sets limits")]

SMALL_DISK = 4 << 20
STOPS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def test_kills_of_the_command_line(setting: Setting, tmp_path: Path) -> None:
    output, tally = tmp_path / "out" / "a.mp4", Tally()
    output.parent.mkdir()
    before = 0
    for count, moment in enumerate(moments(0, setting.worked)):
        if before == 0 and count:
            output.write_bytes(b"an earlier video")
        sent = STOPS[count % len(STOPS)]
        ending = setting.attempt(output, after=moment, sent=sent)
        tally.note(ending)
        if ending.status == 0:
            setting.check(output, tally)
            before = 0
            continue
        assert ending.status in (128 + sent, 130), ending.said
        assert not output.exists() or output.read_bytes() == b"an earlier video"
        part = output.with_name("a.part.mp4")
        if sent != signal.SIGKILL and part.exists():
            tally.unplayable += not list(VideoReader(part))
        lost = before - finished(output)
        tally.lost, tally.most_lost = tally.lost + max(0, lost), max(tally.most_lost, lost)
        before = finished(output)
    assert setting.attempt(output).status == 0
    setting.check(output, tally)
    print("\nkills of the command line:", tally)
    assert not (tally.unplayable or tally.tracebacks or tally.lost)


def test_kills_of_a_run_of_the_nodes(tmp_path: Path) -> None:
    longest = attempt(lambda: grow(tmp_path / "timed"), tmp_path / "log.txt").worked
    tally = grow_under(({"after": moment} for moment in moments(1, longest / 4)), tmp_path)
    print("\nkills of a run of the nodes:", tally)
    assert tally.ended and not (tally.unplayable or tally.tracebacks or tally.lost)


def test_full_disks(setting: Setting, tmp_path: Path) -> None:
    output, tally = tmp_path / "out" / "a.mp4", Tally()
    output.parent.mkdir()
    whole = (setting.folder / "whole.mp4").stat().st_size
    for count, size in enumerate(int(moment) for moment in moments(2, whole)):
        output.write_bytes(b"an earlier video")
        ending = setting.attempt(output, file_size=size, without_probe=count % 4 > 0)
        tally.note(ending)
        assert ending.status in (0, 1) and (ending.status == 0 or output.read_bytes() == b"an earlier video")
        if ending.status == 1:
            assert "error: " in ending.said.splitlines()[-1]
    assert setting.attempt(output).status == 0
    setting.check(output, tally)
    print("\nfull disks:", tally)
    assert tally.ended and not (tally.unplayable or tally.tracebacks)


def test_full_disks_of_a_run_of_the_nodes(tmp_path: Path) -> None:
    grow(tmp_path / "timed", 2)
    largest = max(path.stat().st_size for path in (tmp_path / "timed").iterdir())
    tally = grow_under(({"file_size": int(size)} for size in moments(5, 1.5 * largest)), tmp_path)
    print("\nfull disks of a run of the nodes:", tally)
    assert tally.ended and not (tally.unplayable or tally.tracebacks or tally.lost or tally.others)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_really_full(setting: Setting, small_disk: Path) -> None:
    """The system's own refusal, in the writer, the journal, the joined video or the message."""
    output, filler, tally = small_disk / "out" / "a.mp4", small_disk / "filler", Tally()
    output.parent.mkdir()
    needed = 2 * (setting.folder / "whole.mp4").stat().st_size + (64 << 10)
    for room_left in moments(6, 1.3 * needed):
        before = finished(output)
        output.write_bytes(b"an earlier video")
        room = shutil.disk_usage(small_disk).free - int(room_left)
        filler.write_bytes(bytes(max(0, room)))
        ending = setting.attempt(output, without_probe=True)
        tally.note(ending)
        assert ending.status in (0, 1) and (ending.status == 0 or output.read_bytes() == b"an earlier video")
        if ending.status == 1:
            assert "error: " in ending.said.splitlines()[-1]
            tally.lost += max(0, before - finished(output))
        filler.unlink()
    assert setting.attempt(output).status == 0
    setting.check(output, tally)
    print("\na disk that is really full:", tally)
    assert tally.ended and not (tally.unplayable or tally.tracebacks or tally.lost)


def test_damaged_newest_files(tmp_path: Path) -> None:
    chance, tally = random.Random(4), Tally()
    grow(tmp_path / "run", 6)
    for _ in moments(4, 1):
        names = ["clip_00005.mp4", "motion_00005.safetensors", "memory_00006.safetensors", "journal.jsonl"]
        path = tmp_path / "run" / chance.choice(names)
        data = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.randint(0, len(data))])
        with RunFolder(tmp_path / "run") as run:
            tally.tries += 1
            tally.most_lost = max(tally.most_lost, 6 - len(run.clips))
        grow(tmp_path / "run", 6)
        check_run(tmp_path / "run", 6)
    print("\ndamaged newest files:", tally)
    assert tally.most_lost <= 1


def test_two_writers(setting: Setting, tmp_path: Path) -> None:
    output = tmp_path / "a.mp4"
    work = setting.command(output)

    def second_while_the_first_runs() -> int:
        add = RunFolder.add

        def add_and_try(self: RunFolder, *arguments: Any) -> FinishedClip:
            first_time.stop()
            ending = attempt(work, tmp_path / "second.txt")
            assert ending.status == 1 and "at this moment" in ending.said, ending
            return add(self, *arguments)

        first_time = mock.patch.object(RunFolder, "add", add_and_try)
        first_time.start()
        return work()

    ending = attempt(second_while_the_first_runs, tmp_path / "first.txt")
    assert ending.status == 0, ending.said
    assert "at this moment" in (tmp_path / "second.txt").read_text()
    with pytest.raises(MCDMError), RunFolder(tmp_path / "run"):
        RunFolder(tmp_path / "run")
