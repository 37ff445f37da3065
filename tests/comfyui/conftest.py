"""A ComfyUI server for the integration tests.

``COMFYUI_PATH`` names ComfyUI's repository (without it these tests are skipped), ``COMFYUI_PYTHON`` the interpreter
with its requirements and ours (default: this one), ``COMFYUI_EXTRA_PATH`` a folder to prepend to PYTHONPATH,
``COMFYUI_BASE`` a folder to keep (default: a temporary one), ``COMFYUI_PORT`` a server that runs on it already,
``CHROMIUM`` the browser.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "harness"))

from convert import to_prompt
from page import CHROMIUM, FLAGS, WAIT
from server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "mcdm_core" / "assets" / "mcdm_tiny.safetensors"
RANDOM = "random_for_tests.safetensors"
FACE_BOX = {"box_left": 0.28, "box_top": 0.22, "box_right": 0.72, "box_bottom": 0.78}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is an integration test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfyui)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running server; with random weights if the trained ones are not shipped."""
    source = os.environ.get("COMFYUI_PATH")
    if not source:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI")
    base = Path(os.environ["COMFYUI_BASE"]) if "COMFYUI_BASE" in os.environ else tmp_path_factory.mktemp("comfyui")
    models = base / "models" / "mcdm"
    models.mkdir(parents=True, exist_ok=True)
    if not SHIPPED.is_file() and "COMFYUI_PORT" not in os.environ:
        write_random_weights(models / RANDOM)
    write_inputs(base / "input")
    write_unusable_weights(models)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    comfy = ComfyServer(Path(source), base, python, os.environ.get("COMFYUI_EXTRA_PATH"))
    if "COMFYUI_PORT" in os.environ:
        comfy.attach(int(os.environ["COMFYUI_PORT"]))
    else:
        comfy.start()
    yield comfy
    comfy.stop()


def write_random_weights(path: Path) -> None:
    """A tiny model that has learnt nothing: enough to test the nodes."""
    import torch

    sys.path.insert(0, str(ROOT))
    from mcdm_core.checkpoint import save_checkpoint
    from mcdm_core.config import TINY
    from mcdm_core.pipeline import MCDMPipeline

    save_checkpoint(path, MCDMPipeline.from_config(TINY).model.states(), TINY, dtype=torch.float16)


def write_inputs(folder: Path) -> None:
    """Sound and picture that no user should bring: silence, and grey."""
    import wave

    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with wave.open(str(folder / "silence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * 16_000)
    Image.new("RGB", (320, 240), (128, 128, 128)).save(folder / "grey.png")


def write_unusable_weights(folder: Path) -> None:
    """A damaged weight file, and one of something else."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(4)
    (folder / "foreign.safetensors").write_bytes(whole)
    (folder / "damaged.safetensors").write_bytes(whole[:20])


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS, timeout=WAIT)
        yield started
        started.close()


@pytest.fixture(scope="session")
def trained() -> bool:
    """Whether the trained weights are there; random ones find no face."""
    return SHIPPED.is_file()


@pytest.fixture(scope="session")
def object_info() -> dict[str, Any]:
    """The committed node definitions."""
    return json.loads((ROOT / "tests" / "nodes" / "object_info.json").read_text(encoding="utf-8"))


@pytest.fixture
def workflow_prompt(object_info: dict[str, Any]) -> Any:
    """A function from a workflow's name to its prompt, with few steps and a short sound to keep tests quick."""

    def load(name: str, seconds: float = 2.0) -> dict[str, Any]:
        workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
        prompt = to_prompt(workflow, object_info)
        return quick(prompt, seconds)

    return load


def quick(prompt: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Fewer steps, a shorter sound; random weights and a given box where there are no trained ones."""
    from PIL import Image

    trained = SHIPPED.is_file()
    for node in [node for node in prompt.values() if node["class_type"] == "MCDMTalkingPortrait"]:
        # It has no widget for a shorter sound.
        choices = {"model_name": "tiny (shipped)", "dtype": "auto", "attention": "model's own"}
        segment = {"start": 0.0, "duration": seconds, "fps": 25.0, "allow_silent": False}
        prompt["890"] = {"class_type": "MCDMLoadModel", "inputs": choices}
        cut = {"model": ["890", 0], "audio": node["inputs"]["audio"]} | segment
        prompt["891"] = {"class_type": "MCDMEmbedAudio", "inputs": cut}
        node["inputs"] |= {"audio": ["891", 1], "model": ["890", 0]}
    for node in prompt.values():
        inputs = node["inputs"]
        for name, value in (("steps", 1), ("motion_steps", 2)):
            if name in inputs:
                inputs[name] = value
        if node["class_type"] == "MCDMEmbedAudio" and not 0 < inputs["duration"] <= seconds:
            inputs["duration"] = seconds
        if node["class_type"] == "MCDMLoadModel" and not trained:
            inputs["model_name"] = RANDOM
        if node["class_type"] == "MCDMEncodeReference" and not trained:
            samples = next(n for n in prompt.values() if n["class_type"] == "MCDMSamples")
            with Image.open(ROOT / "mcdm_core/assets/samples" / samples["inputs"]["portrait"]) as picture:
                width, height = picture.size
            scale = {"box_left": width, "box_right": width, "box_top": height, "box_bottom": height}
            inputs |= {side: round(part * scale[side]) for side, part in FACE_BOX.items()}
    return prompt
