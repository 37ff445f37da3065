"""Model management and borrowed encoders inside ComfyUI's own Python, without a server (in_comfyui.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "mcdm_core" / "assets" / "mcdm_tiny.safetensors"


def figures(case: str) -> dict[str, Any]:
    """What a case of in_comfyui.py measured."""
    source = os.environ.get("COMFYUI_PATH")
    if not source:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    environment = dict(os.environ)
    if "COMFYUI_EXTRA_PATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["COMFYUI_EXTRA_PATH"]
    command = [python, str(HERE / "harness" / "in_comfyui.py"), case, str(HERE.parents[1])]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(case, found)
    return found


needs_weights = pytest.mark.skipif(not SHIPPED.is_file(), reason="the trained weights are not here")


@needs_weights
def test_every_number_format_makes_the_same_pictures() -> None:
    found = figures("dtypes")
    for name, of in found.items():
        assert of["finite"] and of["difference"] < 0.005, name
        assert of["castable"] > 0.99, "what ComfyUI cannot offload layer by layer"
    assert found["bfloat16"]["megabytes"] < 0.52 * found["float32"]["megabytes"]
    assert found["auto"]["difference"] == 0, "float32 on a CPU"


@needs_weights
def test_a_model_loaded_in_part_makes_the_same_pictures() -> None:
    found = figures("partial")
    assert found["left behind"] > 100 and found["loaded"] < 0.2 * found["all"]
    assert found["in part"] == 0 and found["again"] == 0


@needs_weights
def test_layers_do_not_depend_on_weights_that_dynamic_vram_brings_later() -> None:
    found = figures("dynamic")
    if not found["dynamic"]:
        pytest.skip("this ComfyUI has no dynamic VRAM")
    assert found["difference"] == 0


def test_borrowed_encoders_equal_the_librarys() -> None:
    found = figures("sockets")
    assert found["vae encode"] < 1e-4 and found["vae decode"] < 1e-3 and found["vae repeat"] == 0
    for name in ("clip", "audio"):
        assert found[f"{name} shape"] and not found[f"{name} unknown"] and not found[f"{name} missing"]
        # ComfyUI rounds pictures to 8 bits and has its own attention.
        assert found[name] < 0.02, name


def test_encoders_that_sockets_lend_are_never_built() -> None:
    found = figures("lent")
    assert found["built"] == []
    for case in ("without", "with"):
        assert found[case]["parts"] == ["BorrowedVAE", "BorrowedCLIPVision", "BorrowedAudioEncoder"], case
        assert found[case]["weights"] == 0, case
    assert "lacks audio_encoder, image_encoder" in found["message"]
    assert "Connect audio_encoder, clip_vision of Load MCDM Model" in found["message"]


@needs_weights
def test_the_nodes_make_videos_without_a_server() -> None:
    found = figures("whole")
    assert found["frames"] == 18
    for name in ("sampled", "finished", "larger", "dubbed"):
        assert found[name]["frames"] == 18 and found[name]["rate"] == 25 and found[name]["sound"], name
    assert found["components"] == 18
    assert found["sampled"]["tags"] == found["dubbed"]["tags"] == ["comment", "prompt", "workflow"]
    assert found["larger"]["width"] > found["finished"]["width"]
    assert 0 < found["changed"] < 0.2, "the mouth alone"
    parts = ["MCDMAssembleVideo", "MCDMEmbedAudio", "MCDMEncodeReference", "MCDMLoadModel", "MCDMSampleVideo"]
    assert found["expanded"] == parts
    assert "2 runs" in found["report"]


@needs_weights
def test_an_adapter_changes_the_model_by_its_strength() -> None:
    found = figures("adapter")
    assert found["offered"] == [True, False], "a choice of adapters, none of models"
    assert found["0.0"] == 0 and abs(found["0.5"] - 0.005) < 1e-6 and found["reloads"]
