"""``generate --manifest``: every video once, failures with their reasons, a killed process made up for."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from mcdm_core.__main__ import main
from mcdm_core.cli.generate_many import read_jobs
from mcdm_core.errors import MediaError
from mcdm_core.media.video_reader import VideoReader


@pytest.fixture
def command(small_options, tmp_path) -> list[str]:
    """The options of all jobs; portrait and voice lie beside the manifest."""
    return [
        "generate",
        *small_options,
        "--manifest",
        str(tmp_path / "jobs.jsonl"),
        "--output",
        str(tmp_path / "videos"),
    ]


def write_jobs(path: Path, jobs: list[dict]) -> None:
    path.write_text("\n".join(json.dumps(job) for job in jobs) + "\n")


def test_each_video_is_made_once_and_failures_are_listed(command, tmp_path, capsys) -> None:
    jobs = [
        {"portrait": "portrait.png", "audio": "voice.wav", "output": f"{n}.mp4", "max_size": 90 * (n + 1)}
        for n in range(2)
    ]
    jobs.append({"portrait": "nobody.png", "audio": "voice.wav", "output": "lost.mp4"})
    jobs.append({"audio": "voice.wav", "portrait": "portrait.png"})
    write_jobs(tmp_path / "jobs.jsonl", jobs)
    assert main(command) == 1
    videos = tmp_path / "videos"
    assert sorted(path.name for path in videos.glob("*.mp4")) == ["0.mp4", "00004.mp4", "1.mp4"]
    failed = json.loads((videos / "failed.jsonl").read_text())
    assert failed["output"] == "lost.mp4" and "nobody.png" in failed["reason"]
    first, second = (list(VideoReader(videos / f"{n}.mp4")) for n in range(2))
    assert len(first) == len(second) == 14 and first[0].shape == (3, 90, 80) and second[0].shape == (3, 180, 160)
    before = {path.name: path.stat().st_mtime_ns for path in videos.glob("*.mp4")}
    Image.open(tmp_path / "portrait.png").save(tmp_path / "nobody.png")
    capsys.readouterr()
    assert main(command) == 0
    assert "3 of 4 videos are there already" in capsys.readouterr().out
    assert {name: (videos / name).stat().st_mtime_ns for name in before} == before
    assert (videos / "lost.mp4").is_file() and (videos / "failed.jsonl").read_text() == ""


def test_a_manifest_that_makes_no_sense_is_refused(tmp_path) -> None:
    common = argparse.Namespace()

    def refused(text: str, match: str) -> None:
        (tmp_path / "jobs.jsonl").write_text(text)
        with pytest.raises(MediaError, match=match):
            read_jobs(tmp_path / "jobs.jsonl", tmp_path / "out", common, lambda own, all_: 0)

    refused("", "holds no jobs")
    refused("not json", "Line 1")
    refused('{"output": "a.mp4"}\n{"output": "a.mp4"}', "Lines 1 and 2")
    refused('{"output": "../a.mp4"}', "outside")
    refused('{"workers": 3}', "whole command")


def workers_of_this_machine(engine: str) -> list[int]:
    """Processes that make videos at this moment: our children, or Ray's."""
    if engine == "processes":
        import multiprocessing

        return [process.pid for process in multiprocessing.active_children() if process.pid]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::Map"):
                found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc, and kills one")
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_twenty_jobs_over_two_processes_one_of_which_is_killed(engine, command, tmp_path, request) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_address")
    write_jobs(
        tmp_path / "jobs.jsonl", [{"portrait": "portrait.png", "audio": "voice.wav", "seed": n} for n in range(20)]
    )
    videos, killed, over = tmp_path / "videos", [], threading.Event()

    def kill_one() -> None:
        while not over.is_set() and not killed:
            if list(videos.glob("*[0-9].mp4")) and (victims := workers_of_this_machine(engine)):
                os.kill(victims[0], signal.SIGKILL)
                killed.append(victims[0])
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        assert main([*command, "--workers", "2", "--engine", engine]) == 0
    finally:
        over.set()
        killer.join()
    assert killed and len(list(videos.glob("0*.mp4"))) == 20 and not (videos / "failed.jsonl").read_text()
    assert all(len(list(VideoReader(path))) == 14 for path in videos.glob("*.mp4"))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_local_ray_makes_the_videos_of_one_process(command, tmp_path) -> None:
    jobs = [{"portrait": "portrait.png", "audio": "voice.wav", "seed": n, "output": f"{n}.mp4"} for n in range(4)]
    write_jobs(tmp_path / "jobs.jsonl", [*jobs, {"portrait": "nobody.png", "output": "lost.mp4"}])
    assert main([*command, "--workers", "2", "--engine", "ray"]) == 1
    of_ray = (tmp_path / "videos").rename(tmp_path / "of_ray")
    assert main(command) == 1
    for place in (of_ray, tmp_path / "videos"):
        assert sorted(path.name for path in place.glob("*.mp4")) == [f"{n}.mp4" for n in range(4)]
        assert json.loads((place / "failed.jsonl").read_text())["output"] == "lost.mp4"
    for n in range(4):
        assert (of_ray / f"{n}.mp4").read_bytes() == (tmp_path / "videos" / f"{n}.mp4").read_bytes()
