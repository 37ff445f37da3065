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
SECONDS, MEGABYTES = 120, 1500
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
    """Node, input and value."""
    found = []
    for kind in TEMPLATES:
        inputs = {**INFO[kind]["input"]["required"], **INFO[kind]["input"].get("optional", {})}
        for name, spec in inputs.items():
            if spec[0] in ("INT", "FLOAT") and name not in SLOW_BY_NATURE:
                found += [(kind, name, spec[1]["min"]), (kind, name, spec[1]["max"])]
    return found


@pytest.mark.parametrize(("kind", "name", "value"), numbers(), ids=str)
def test_a_number_at_its_extreme(server: Any, workflow_prompt: Any, kind: str, name: str, value: float) -> None:
    if server.process is None:
        pytest.skip("the server was started by somebody else")
    prompt = copy.deepcopy(workflow_prompt(TEMPLATES[kind], seconds=0.7))
    number = by_type(prompt, kind)[0]
    prompt[number]["inputs"][name] = value
    keep_only(prompt, number)
    before = server.resident_megabytes()
    readings: list[tuple[float, float]] = []
    with watched_memory(server, readings, interval=0.2):
        result = server.run(prompt, timeout=SECONDS)
    assert result.status in ("execution_success", "execution_error"), result.data
    if result.status == "execution_error":
        message = result.data["exception_message"]
        assert result.data["exception_type"].endswith(
            ("MediaError", "AudioError", "MCDMError", "FaceTooSmallError", "FaceNotFoundError")
        ), message
    assert max((size for _, size in readings), default=before) - before < MEGABYTES
