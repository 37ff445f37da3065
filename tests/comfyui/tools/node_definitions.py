"""Runs inside ComfyUI's own Python, without a server: prints this pack's node definitions as ``/object_info`` has them.

Usage, from ComfyUI's folder: ``python node_definitions.py PACK``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, "")

import comfy.cli_args

comfy.cli_args.args.cpu = True


def definitions(path: Path) -> dict[str, object]:
    """By node id, as the server's own ``node_info`` makes them of V3 nodes."""
    spec = importlib.util.spec_from_file_location(
        "mcdm_pack", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec and spec.loader
    sys.modules["mcdm_pack"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    extension = importlib.import_module("mcdm_pack.nodes.extension").MCDMExtension()
    found = {}
    for node in asyncio.run(extension.get_node_list()):
        node.GET_SCHEMA().validate()
        found[node.GET_SCHEMA().node_id] = node.GET_NODE_INFO_V1()
    return found


if __name__ == "__main__":
    print(json.dumps(definitions(Path(sys.argv[1]))))
