"""Subgraph blueprints: committed as built, and every link between ends that exist and agree."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFO: dict[str, Any] = json.loads((ROOT / "tests/nodes/object_info.json").read_text(encoding="utf-8"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("blueprints", ROOT / "tests/comfyui/tools/build_blueprints.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_the_committed_files_are_the_builder_s() -> None:
    builder = _builder()
    assert [path.stem for path in BLUEPRINTS] == sorted(builder.BLUEPRINTS)
    for path in BLUEPRINTS:
        made = json.loads(json.dumps(builder.build(path.stem, INFO)))
        assert json.loads(path.read_text(encoding="utf-8")) == made, "run tests/comfyui/tools/build_blueprints.py"


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_links_agree_with_both_ends(path: Path) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    (definition,), (instance,) = whole["definitions"]["subgraphs"], whole["nodes"]
    assert instance["type"] == definition["id"]
    nodes = {node["id"]: node for node in definition["nodes"]}
    assert {node["type"] for node in nodes.values()} <= set(INFO)
    links = {link["id"]: link for link in definition["links"]}
    for number, link in links.items():
        ends = definition["inputs"] if link["origin_id"] == -10 else nodes[link["origin_id"]]["outputs"]
        source = ends[link["origin_slot"]]
        assert number in source["linkIds" if link["origin_id"] == -10 else "links"] and source["type"] == link["type"]
        ends = definition["outputs"] if link["target_id"] == -20 else nodes[link["target_id"]]["inputs"]
        target = ends[link["target_slot"]]
        held = target["linkIds"] if link["target_id"] == -20 else [target["link"]]
        assert number in held and target["type"] == link["type"]
    for node in nodes.values():
        linked = [socket["link"] for socket in node["inputs"] if socket["link"] is not None]
        assert set(linked) <= set(links), node["type"]
        assert {number for output in node["outputs"] for number in output["links"]} <= set(links), node["type"]
    assert all(end["linkIds"] for end in [*definition["inputs"], *definition["outputs"]])
    for number, widget in instance["properties"]["proxyWidgets"]:
        kind = nodes[int(number)]["type"]
        known = {**INFO[kind]["input"].get("required", {}), **INFO[kind]["input"].get("optional", {})}
        assert widget in known, f"{kind} has no {widget}"
