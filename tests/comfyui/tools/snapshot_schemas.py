"""Writes ``tests/nodes/object_info.json``: this pack's node definitions, and the core's that the templates use.

Usage: ``COMFYUI_PATH=... python tests/comfyui/tools/snapshot_schemas.py`` with the oldest supported ComfyUI. What
depends on the machine (lists of files) is left out. The core definitions need a server: ``--core`` asks for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "nodes" / "object_info.json"
CORE = ("SaveVideo", "CreateVideo", "ImageScaleBy", "AudioConcat", "LoadVideo", "GetVideoComponents")
CORE += ("EmptyAudio", "ImageStitch", "TrimAudioDuration")
KEEP = (
    "input",
    "input_order",
    "output",
    "output_is_list",
    "output_name",
    "output_tooltips",
    "name",
    "display_name",
    "description",
    "category",
)
KEEP += ("output_node",)
FILE_LISTS = {
    ("MCDMLoadModel", "required", "model_name"),
    ("MCDMLoadModel", "optional", "adapter"),
    ("MCDMLoadMemory", "required", "file"),
}


def reduced(info: dict[str, Any]) -> dict[str, Any]:
    """The definitions to commit."""
    chosen = {name: info[name] for name in sorted(info) if name.startswith("MCDM") or name in CORE}
    result = {name: {key: node[key] for key in KEEP if key in node} for name, node in chosen.items()}
    for node, group, name in FILE_LISTS:
        options = result[node]["input"][group][name][1]
        options["options"] = options["options"][:1]
    return result


def own_definitions() -> dict[str, Any]:
    """This pack's definitions, from ComfyUI's Python."""
    environment = dict(os.environ)
    if "COMFYUI_EXTRA_PATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["COMFYUI_EXTRA_PATH"]
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [python, str(HERE / "node_definitions.py"), str(HERE.parents[2])]
    done = subprocess.run(command, cwd=os.environ["COMFYUI_PATH"], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def core_definitions() -> dict[str, Any]:
    """The core's definitions, from a server."""
    from server import ComfyServer

    with tempfile.TemporaryDirectory() as base:
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        server = ComfyServer(Path(os.environ["COMFYUI_PATH"]), Path(base), python, os.environ.get("COMFYUI_EXTRA_PATH"))
        server.start()
        try:
            return server.get("/object_info")
        finally:
            server.stop()


def main() -> None:
    """Ask and write."""
    core = core_definitions() if "--core" in sys.argv else json.loads(TARGET.read_text(encoding="utf-8"))
    info = {name: node for name, node in core.items() if name in CORE} | own_definitions()
    TARGET.write_text(json.dumps(reduced(info), indent=1, sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
