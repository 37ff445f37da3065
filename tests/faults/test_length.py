"""A long video: memory stays as it is, and sound and picture end together.

An hour is ``MCDM_FAULTS_VIDEO=3600 python -m pytest -s -m slow tests/faults/test_length.py``; a minute without that.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import wave
from pathlib import Path
from statistics import fmean

import av
import pytest
import torch

from mcdm_core.pipeline import MCDMPipeline
from tests.conftest import small_config
from tests.small_inputs import given, write_inputs

from .setting import finished

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]

SECONDS = int(os.environ.get("MCDM_FAULTS_VIDEO", "60"))
"""Length of the video."""
FPS = 10
"""Few pictures a second, so that an hour of them is made within an hour of one core."""
BEGUN = 5
"""Clips after which all that is kept from clip to clip is there: archive, context and the encoder's look ahead."""


def write_noise(path: Path, seconds: int) -> None:
    """A sound of seconds that are all different, written piece by piece."""
    generator = torch.Generator().manual_seed(0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        for _ in range(seconds):
            file.writeframes(
                (8000 * torch.randn(16_000, generator=generator)).clamp(-32768, 32767).short().numpy().tobytes()
            )


def resident_mib(process: int) -> float:
    """Resident memory of a running process in MiB, 0 of an ended one."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ends(video: Path) -> tuple[float, float, int]:
    """Seconds at which the pictures and the sound of a video end, and the number of pictures."""
    shown, heard, pictures = 0.0, 0.0, 0
    with av.open(str(video)) as container:
        for packet in container.demux(video=0, audio=0):
            if packet.pts is None or packet.duration is None or packet.time_base is None:
                continue
            end = float((packet.pts + packet.duration) * packet.time_base)
            if packet.stream.type == "video":
                shown, pictures = max(shown, end), pictures + 1
            else:
                heard = max(heard, end)
    return shown, heard, pictures


def test_a_long_video(portrait: torch.Tensor, tmp_path: Path) -> None:
    narrow = MCDMPipeline.from_config(dataclasses.replace(small_config(), clip_frames=16, archive_frames=16), seed=0)
    options = write_inputs(tmp_path, narrow, portrait, torch.zeros(1))
    write_noise(tmp_path / "voice.wav", SECONDS)
    output, log = tmp_path / "a.mp4", tmp_path / "log.txt"
    command = [sys.executable, "-m", "mcdm_core", "generate", *given(tmp_path), *options]
    command += ["--fps", str(FPS), "--output", str(output)]
    held: list[float] = []
    with open(log, "w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            if finished(output) >= BEGUN and (mib := resident_mib(process.pid)):
                held.append(mib)
            time.sleep(0.1)
    assert process.returncode == 0, log.read_text()
    part = len(held) // 4
    quarters = [fmean(held[part * k : part * (k + 1)]) for k in range(4)]
    shown, heard, pictures = ends(output)
    apart = abs(shown - heard)
    print(f"\n{SECONDS} s, {pictures} pictures, MiB in its quarters {quarters}, ends {1000 * apart:.0f} ms apart")
    assert pictures == SECONDS * FPS
    assert apart < 1 / FPS
    assert max(quarters) / min(quarters) < 1.02
