"""Writes ``tests/nodes/object_info.json``: this pack's node definitions, and the core's that the templates use.

Usage: ``COMFYUI_PATH=... python tests/comfyui/snapshot_schemas.py`` with the oldest supported ComfyUI. What depends on
the machine (lists of files) is left out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from server import ComfyServer  # noqa: E402

TARGET = Path(__file__).resolve().parents[1] / "nodes" / "object_info.json"
CORE = ("SaveVideo", "CreateVideo", "ImageScaleBy", "AudioConcat")
KEEP = (
    "input",
    "input_order",
    "output",
    "output_name",
    "output_tooltips",
    "name",
    "display_name",
    "description",
    "category",
)
KEEP += ("output_node",)
FILE_LISTS = {("MCDMLoadModel", "model_name"), ("MCDMLoadMemory", "file")}


def reduced(info: dict[str, Any]) -> dict[str, Any]:
    """The definitions to commit."""
    chosen = {name: info[name] for name in sorted(info) if name.startswith("MCDM") or name in CORE}
    result = {name: {key: node[key] for key in KEEP if key in node} for name, node in chosen.items()}
    for node, name in FILE_LISTS:
        options = result[node]["input"]["required"][name][1]
        options["options"] = options["options"][:1]
    return result


def main() -> None:
    """Start ComfyUI, ask, write."""
    with tempfile.TemporaryDirectory() as base:
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        side = os.environ.get("COMFYUI_EXTRA_PATH")
        server = ComfyServer(Path(os.environ["COMFYUI_PATH"]), Path(base), python, side)
        server.start()
        try:
            info = server.get("/object_info")
        finally:
            server.stop()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(reduced(info), indent=1, sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
