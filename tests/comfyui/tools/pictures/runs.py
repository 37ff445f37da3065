"""Runs templates on a real server for their pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "harness"))

from convert import to_prompt  # noqa: E402
from results import saved  # noqa: E402
from server import ComfyServer  # noqa: E402
from thumbnails import Made  # noqa: E402

INFO: dict[str, Any] = json.loads((ROOT / "tests" / "nodes" / "object_info.json").read_text(encoding="utf-8"))


def template(name: str) -> dict[str, Any]:
    """A template as the page loads it."""
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def cut_sound(prompt: dict[str, Any], seconds: float) -> None:
    """Let nothing speak for longer than ``seconds``."""
    for number, node in list(prompt.items()):
        inputs = node["inputs"]
        if node["class_type"] == "MCDMEmbedAudio" and not 0 < inputs["duration"] <= seconds:
            inputs["duration"] = seconds
        if node["class_type"] == "MCDMTalkingPortrait":
            cut = {"audio": inputs["audio"], "start_index": 0.0, "duration": seconds}
            prompt[f"{number}00"] = {"class_type": "TrimAudioDuration", "inputs": cut}
            inputs["audio"] = [f"{number}00", 0]


def run_template(server: ComfyServer, name: str, seconds: float) -> Made:
    """Run a template and find what it has made.

    Raises:
        RuntimeError: if it does not end well.
    """
    prompt = to_prompt(template(name), INFO)
    cut_sound(prompt, seconds)
    result = server.run(prompt)
    if result.status != "execution_success":
        raise RuntimeError(f"{name}: {result.data}")
    portraits = {node["inputs"]["portrait"] for node in prompt.values() if node["class_type"] == "MCDMSamples"}
    made = Made(portraits.pop() if len(portraits) == 1 else "")
    for number, output in result.outputs.items():
        # Nodes that another one expands into have its id before a dot.
        kind = prompt[number.split(".")[0]]["class_type"]
        for entry in output.get("video", []):
            made.videos.setdefault(kind, []).append(saved(server, entry))
        for entry in output.get("images", []):
            path = saved(server, entry)
            kept = made.videos if path.suffix == ".mp4" else made.pictures
            kept.setdefault(kind, []).append(path)
    return made
