"""Every number a node takes, at its least and its largest: an answer or a clear refusal, soon, in little memory."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from results import by_type, keep_only, watched_memory

ROOT = Path(__file__).resolve().parents[2]
INFO: dict[str, Any] = json.loads((ROOT / "tests" / "nodes" / "object_info.json").read_text(encoding="utf-8"))
SECONDS, MEGABYTES = 60, 1500
"""Of computing, whatever else the machine does; and of memory beside what the server held before."""
SOUND = 0.32
"""Seconds of speech: eight frames show what a number does, and all of it stays cheap."""
TEMPLATES = {
    "MCDMEncodeReference": "MCDM 02 Step by step",
    "MCDMEmbedAudio": "MCDM 02 Step by step",
    "MCDMSampleVideo": "MCDM 02 Step by step",
    "MCDMAssembleVideo": "MCDM 02 Step by step",
    "MCDMPredictMotion": "MCDM 05 Motion edited by hand",
    "MCDMEditMotion": "MCDM 05 Motion edited by hand",
    "MCDMFaceEditor": "MCDM 04 Expressions over time",
    "MCDMPlotMotion": "MCDM 05 Motion edited by hand",
    "MCDMSampleClip": "MCDM 08 Clip by clip with memory",
    "MCDMStartMemory": "MCDM 08 Clip by clip with memory",
    "MCDMUpscaleVideo": "MCDM 10 Upscaled",
    "MCDMDubVideo": "MCDM 03 Dub a video",
    "MCDMTalkingPortrait": "MCDM 01 Talking portrait",
}
SLOW_BY_NATURE = {"steps", "motion_steps"}
"""A hundred steps are what was asked for."""


def numbers() -> list[tuple[str, str, float]]:
    """Node, input and value; first each node with all as it is, which has to run."""
    found: list[tuple[str, str, float]] = []
    for kind in TEMPLATES:
        found.append((kind, "", 0.0))
        inputs = {**INFO[kind]["input"]["required"], **INFO[kind]["input"].get("optional", {})}
        for name, spec in inputs.items():
            if spec[0] in ("INT", "FLOAT") and name not in SLOW_BY_NATURE:
                found += [(kind, name, spec[1]["min"]), (kind, name, spec[1]["max"])]
    return found


def shorten_sound(prompt: dict[str, Any]) -> None:
    """Let all nodes hear the beginning of the sample voice alone."""
    for number in by_type(prompt, "MCDMSamples"):
        for node in prompt.values():
            node["inputs"] |= {name: [f"{number}00", 0] for name, of in node["inputs"].items() if of == [number, 1]}
        cut = {"audio": [number, 1], "start_index": 0.0, "duration": SOUND}
        prompt[f"{number}00"] = {"class_type": "TrimAudioDuration", "inputs": cut}
    for number in by_type(prompt, "MCDMEmbedAudio"):
        prompt[number]["inputs"]["start"] = 0.0
    for number in by_type(prompt, "MCDMSampleClip"):
        prompt[number]["inputs"]["clip_index"] = 0  # the only one


@pytest.mark.parametrize(("kind", "name", "value"), numbers(), ids=str)
def test_a_number_at_its_extreme(server: Any, workflow_prompt: Any, kind: str, name: str, value: float) -> None:
    prompt = copy.deepcopy(workflow_prompt(TEMPLATES[kind], seconds=SOUND))
    shorten_sound(prompt)
    number = by_type(prompt, kind)[0]
    if name:
        prompt[number]["inputs"][name] = value
    keep_only(prompt, number)
    before, computed = server.resident_megabytes(), server.computed_seconds()
    readings: list[tuple[float, float]] = []
    with watched_memory(server, readings, interval=0.2):
        result = server.run(prompt, timeout=20 * SECONDS)
    assert result.status in ("execution_success", "execution_error"), result.data
    if result.status == "execution_error":
        message = result.data["exception_message"]
        assert name, f"{kind} as it is: {message}"
        assert result.data["exception_type"].endswith(
            ("MediaError", "AudioError", "MCDMError", "FaceTooSmallError", "FaceNotFoundError")
        ), message
    assert server.computed_seconds() - computed < SECONDS
    assert max((size for _, size in readings), default=before) - before < MEGABYTES
