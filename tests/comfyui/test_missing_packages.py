"""A ComfyUI without the packages of requirements.txt: the nodes are there, tiny runs, and the log says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server import ComfyServer


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server whose Python cannot import what ComfyUI does not bring itself."""
    source = os.environ.get("COMFYUI_PATH")
    if not source or "COMFYUI_PORT" in os.environ:
        pytest.skip("needs a server of its own")
    base = tmp_path_factory.mktemp("bare")
    block = base / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys(('diffusers', 'soxr', 'cv2')))\n"
    )
    path = os.pathsep.join(filter(None, (str(block), os.environ.get("COMFYUI_EXTRA_PATH"))))
    comfy = ComfyServer(Path(source), base, os.environ.get("COMFYUI_PYTHON", sys.executable), path)
    comfy.start()
    yield comfy
    comfy.stop()


def test_nodes_register_run_and_the_command_is_named(
    bare_server: ComfyServer, object_info: dict[str, Any], workflow_prompt: Any
) -> None:
    live = bare_server.get("/object_info")
    assert {name for name in object_info if name.startswith("MCDM")} <= set(live)
    log, command = bare_server.log(), f'"{bare_server.python}" -m pip install -r "'
    assert "IMPORT FAILED" not in log and command in log and "requirements.txt" in log
    assert "diffusers (the autoencoder" in log and "soxr (resampling" in log
    assert "works without cv2" in log and "-m pip install opencv-python-headless" in log
    assert bare_server.run(workflow_prompt("MCDM 02 Step by step", seconds=1.0)).status == "execution_success"
