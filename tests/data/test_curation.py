"""A whole curation of a video that this project made, with planted faults: each is dropped or mended for its reason."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mcdm_core.__main__ import main
from mcdm_core.pipeline import preset_weights

from .planted import RATE, nobody, turn_by_header, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="random weights find no face"),
]
for _package in ("scenedetect", "silero_vad", "pyarrow"):
    pytest.importorskip(_package, reason="curation needs the extra 'wild'")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of the pack's own portrait speaking, whole and with a fault in each file."""
    import cv2

    from mcdm_core.data.real.video import read_clip

    folder = tmp_path_factory.mktemp("videos")
    source = folder / "talk.mp4"
    assert main(["generate", "--output", str(source)]) == 0
    talk = read_clip(source)
    frames, audio = talk.frames, talk.audio
    source.unlink()
    random = np.random.default_rng(0)
    empty = nobody(100, 384, 384)
    short, speech = frames[:100], audio[: 4 * RATE]
    write(folder / "a_good.mp4", frames, audio)
    write(folder / "copy.mp4", frames, audio, crf=26)
    write(
        folder / "cut.mp4",
        np.concatenate([frames[:100], empty, frames[100:200]]),
        np.concatenate([speech, speech, audio[4 * RATE : 8 * RATE]]),
    )
    write(folder / "two.mp4", np.concatenate([short, short[:, :, ::-1]], axis=2), speech)
    write(folder / "nobody.mp4", empty, speech)
    write(folder / "muted.mp4", short, np.zeros_like(speech))
    write(folder / "no_sound.mp4", short, None)
    write(folder / "shifted.mp4", frames, np.concatenate([np.zeros(RATE // 5, np.int16), audio[: -RATE // 5]]))
    write(folder / "blurred.mp4", np.stack([cv2.GaussianBlur(frame, (0, 0), 5) for frame in short]), speech)
    write(folder / "dark.mp4", (short * 0.1).astype(np.uint8), speech)
    write(folder / "cut_off.mp4", short[:, :, 192:], speech)
    write(folder / "rotated.mp4", np.rot90(short, 1, (1, 2)), speech)
    turn_by_header(folder / "rotated.mp4")
    shown = [k for k in range(len(short)) if k % 7 not in (2, 5)]
    write(folder / "variable.mp4", frames[shown], speech, times=[40 * k for k in shown])
    (folder / "broken.mp4").write_bytes((folder / "a_good.mp4").read_bytes()[:200] + random.bytes(20_000))
    return folder


def shards(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.tar")}


@pytest.fixture(scope="module")
def curated(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("curated")
    assert main(["curate", str(videos), str(output), "--all-consented", "--set", "size=128"]) == 0
    return output


def faults(folder: Path) -> dict[str, list[str]]:
    """The fault of each clip by its video, in the order of time; "" is kept."""
    import pyarrow.parquet

    rows = [
        row
        for name in ("index", "dropped")
        for row in pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()
    ]
    found: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: (row["source"], row["begin"])):
        found.setdefault(row["source"].removesuffix(".mp4"), []).append(row["fault"])
    return found


def test_every_fault_is_dropped_or_mended_for_its_reason(curated: Path) -> None:
    found = faults(curated)
    # What is mended is the same four seconds that another video begins with, and so a copy of them.
    assert found.pop("a_good") == [""]
    assert found.pop("copy") == ["duplicate"]
    assert found.pop("rotated") == ["duplicate"] and found.pop("variable") == ["duplicate"]
    assert found.pop("cut") == ["", "no face", ""]
    assert found == {
        "two": ["several faces"],
        "nobody": ["no face"],
        "muted": ["silent"],
        "no_sound": ["no sound"],
        "shifted": ["out of step"],
        "blurred": ["blurred"],
        "dark": ["badly exposed"],
        "cut_off": ["no face"],
        "broken": ["unreadable"],
    }


def test_the_set_can_be_read_and_is_described(curated: Path) -> None:
    import av

    report = json.loads((curated / "report.json").read_text())
    assert report["clips"] == 3 and report["seconds"] == pytest.approx(17, abs=0.2)
    card = (curated / "README.md").read_text()
    assert "out of step" in card and "Consent" in card
    assert {path.stem for path in (curated / "sheets").iterdir()} >= {"kept", "blurred", "several_faces"}
    if importlib.util.find_spec("matplotlib"):
        assert (curated / "plots.png").stat().st_size > 10_000
    webdataset = pytest.importorskip("webdataset", reason="reads the shards as a user would")
    paths = [str(path) for path in curated.rglob("*.tar")]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    assert sorted(sample["__key__"] for sample in samples) == sorted({sample["__key__"] for sample in samples})
    assert len(samples) == 3
    for sample in samples:
        count = json.loads(sample["json"])["frames"]
        with np.load(io.BytesIO(sample["npz"])) as labels:
            landmarks = labels["landmarks"]
        assert landmarks.shape == (count, 68, 2) and 0 < landmarks.min() < landmarks.max() < 1
        with av.open(io.BytesIO(sample["mp4"])) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
        assert len(pictures) == count and pictures[0].shape == (128, 128, 3)
        with av.open(io.BytesIO(sample["flac"])) as container:
            samples = sum(frame.samples for frame in container.decode(container.streams.audio[0]))
        assert abs(samples - count * RATE // 25) <= 1


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_killed_curation_goes_on_to_the_same_set(videos: Path, tmp_path: Path) -> None:
    few, whole, killed = tmp_path / "few", tmp_path / "whole", tmp_path / "killed"
    few.mkdir()
    for name in ("muted", "rotated", "variable"):
        shutil.copy(videos / f"{name}.mp4", few)
    settings = ["--all-consented", "--set", "size=128", "--set", "duplicate_distance=0"]
    assert main(["curate", str(few), str(whole), *settings]) == 0
    command = ["curate", str(few), str(killed), *settings]
    process = subprocess.Popen(
        [sys.executable, "-m", "mcdm_core", *command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not list(killed.glob("work/*/*/result.json")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in killed.glob("work/*/*/result.json")}
    assert not shards(killed)
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was finished was begun again"
    assert shards(killed) == shards(whole) and shards(whole)
    for name in ("report.json", "README.md"):
        assert (killed / name).read_text() == (whole / name).read_text()


@pytest.mark.usefixtures("ray_address")
def test_a_local_ray_gives_the_set_of_one_process(videos: Path, tmp_path: Path) -> None:
    few, one, ray = tmp_path / "few", tmp_path / "one", tmp_path / "ray"
    few.mkdir()
    for name in ("muted", "rotated", "variable"):
        shutil.copy(videos / f"{name}.mp4", few)
    settings = ["--all-consented", "--set", "size=128", "--set", "duplicate_distance=0"]
    assert main(["curate", str(few), str(one), *settings]) == 0
    assert main(["curate", str(few), str(ray), *settings, "--engine", "ray", "--workers", "2"]) == 0
    # Nobody but the work folder, which --tidy deletes, says in which order the videos were looked at.
    made, there = (
        {p.relative_to(f).as_posix(): p.read_bytes() for p in f.rglob("*") if p.is_file() and "work" not in p.parts}
        for f in (one, ray)
    )
    assert made == there and any(name.endswith(".tar") for name in made)
