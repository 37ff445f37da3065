"""A long video through Sample Video with the server's memory watched; ``LONG_VIDEO_SECONDS=300`` runs it (minutes)."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Any

import pytest
from results import saved, watched_memory

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("LONG_VIDEO_SECONDS", "0"))
RATE = 16_000


def write_long_voice(path: Path, seconds: float) -> None:
    """The sample voice over and over, so that every clip has speech."""
    import av
    import numpy as np

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(ROOT / "mcdm_core/assets/samples/voice.flac")) as source:
        blocks = [out.to_ndarray()[0] for frame in source.decode(audio=0) for out in resampler.resample(frame)]
    voice = np.concatenate(blocks)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.resize(voice, round(seconds * RATE)).tobytes())


@pytest.mark.skipif(SECONDS <= 0, reason="LONG_VIDEO_SECONDS is not set")
def test_memory_is_flat_over_a_long_video(server: Any, workflow_prompt: Any) -> None:
    import av

    prompt = workflow_prompt("MCDM 07 Long video to disk", seconds=0)
    write_long_voice(server.base / "input" / "long.wav", SECONDS)
    ids = {node["class_type"]: number for number, node in prompt.items()}
    prompt["900"] = {"class_type": "LoadAudio", "inputs": {"audio": "long.wav"}}
    prompt[ids["MCDMEmbedAudio"]]["inputs"] |= {"audio": ["900", 0], "duration": 0.0}
    sampler = ids["MCDMSampleVideo"]
    prompt[sampler]["inputs"]["steps"] = 1
    prompt[ids["SaveVideo"]]["inputs"]["video"] = [sampler, 0]
    for name in ("MCDMAssembleVideo", "AudioConcat"):
        for number in [number for number, node in prompt.items() if node["class_type"] == name]:
            del prompt[number]

    readings: list[tuple[float, float]] = []
    with watched_memory(server, readings):
        result = server.run(prompt, timeout=60 * SECONDS)
    assert result.status == "execution_success", result.data
    clips = [at for at, kind, _ in result.events if kind == "mcdm.clip"]
    frames = result.named("mcdm.done")[0]["frames"]
    assert frames == round(25 * SECONDS)
    sampling = [size for at, size in readings if clips[0] <= at <= clips[-1]]
    quarter = len(sampling) // 4
    second, last = sampling[quarter : 2 * quarter], sampling[3 * quarter :]
    early, late = sum(second) / len(second), sum(last) / len(last)
    print(
        f"{frames} frames in {result.seconds:.0f} s; resident MB: second quarter {early:.0f}, last {late:.0f}, "
        f"highest {max(sampling):.0f}, after the end {readings[-1][1]:.0f}"
    )
    assert late <= early * 1.05
    with av.open(str(saved(server, result.outputs[ids["SaveVideo"]]["images"][0]))) as container:
        sound = container.streams.audio[0]
        assert container.streams.video[0].frames == frames
        assert abs(float(sound.duration * sound.time_base) - SECONDS) < 1 / 25 + 1024 / sound.rate
