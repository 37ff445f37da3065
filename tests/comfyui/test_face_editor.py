"""The Face Editor's live face: asked for as its sliders do, after a run, before one, and in the middle of one."""

from __future__ import annotations

import io
import json
import random
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
from PIL import Image
from results import by_type, needs

TEMPLATE = "MCDM 04 Expressions over time"


def ask(server: Any, node: str, look: dict[str, Any], workflow: str = "faces") -> tuple[int, np.ndarray | None]:
    """Status and picture of a look."""
    data = json.dumps({"workflow": workflow, "node": node, "look": look}).encode()
    request = urllib.request.Request(f"{server.url}/mcdm/face", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, np.asarray(Image.open(io.BytesIO(answer.read()))).astype(float)
    except urllib.error.HTTPError as error:
        return error.code, None


def uncached(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with a model that the server does not know from another test, so that every node runs."""
    # Without an adapter the strength changes nothing but the key of the cache.
    prompt[by_type(prompt, "MCDMLoadModel")[0]]["inputs"]["adapter_strength"] = random.random()
    return prompt


def test_the_face_follows_the_sliders_after_one_run(server: Any, workflow_prompt: Any) -> None:
    prompt = uncached(workflow_prompt(TEMPLATE))
    editors = by_type(prompt, "MCDMFaceEditor")
    prompt = {number: prompt[number] for number in needs(prompt, editors[-1])}
    assert ask(server, editors[0], {"expression": "happy"}, workflow="never run")[0] == 404
    result = server.run(prompt, workflow={"id": "faces", "nodes": []})
    assert result.status == "execution_success", result.data
    line = result.outputs[editors[-1]]["text"][0]
    assert line == "1 happy 0.9, 3 surprised 0.8 gaze_x 0.6, 4.2 neutral"
    assert all(event["image"].startswith("data:image/jpeg") for event in result.named("mcdm.face"))
    assert {event["node"] for event in result.named("mcdm.face")} == set(editors)
    server.history(result.data["prompt_id"])  # written when the run is off the list of those that run
    node, pictures, seconds = editors[0], [], []
    for look in ({}, {"gaze_x": 1.0}, {"gaze_x": -1.0}, {"expression": "happy", "strength": 1.0}, {}):
        begun = time.perf_counter()
        status, picture = ask(server, node, look)
        seconds.append(round(time.perf_counter() - begun, 2))
        assert status == 200 and picture is not None
        pictures.append(picture)
    print("seconds until the face follows:", seconds)
    assert np.array_equal(pictures[0], pictures[-1]), "the same look is the same picture"
    for one in range(4):
        for other in range(one):
            assert np.abs(pictures[one] - pictures[other]).max() > 8, "each look is another face"
    assert ask(server, node, {"smile": 9})[0] == 400 and ask(server, node, {"smile": "x"})[0] == 400

    again = server.run(prompt, workflow={"id": "the same in another tab", "nodes": []})
    assert again.status == "execution_success" and not again.named("mcdm.face"), "out of the cache"
    assert again.outputs[node]["face"] == [{"workflow": "faces", "node": node}], "where that page can ask"


def test_a_running_workflow_is_left_alone(server: Any, workflow_prompt: Any) -> None:
    prompt = uncached(workflow_prompt(TEMPLATE, seconds=0.7))
    prompt[by_type(prompt, "MCDMSampleVideo")[0]]["inputs"]["seed"] = 77
    node, seen = by_type(prompt, "MCDMFaceEditor")[0], []

    def on_event(_: Any, kind: str, data: dict[str, Any]) -> None:
        if kind == "mcdm.clip":
            seen.append(ask(server, node, {})[0])

    assert server.run(prompt, on_event=on_event, workflow={"id": "faces", "nodes": []}).status == "execution_success"
    assert seen and set(seen) == {409}
