"""Template workflows against the node definitions that tests/comfyui/snapshot_schemas.py took from a real server."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFO: dict[str, Any] = json.loads((ROOT / "tests/nodes/object_info.json").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
OWN = {name for name in INFO if name.startswith("MCDM")}


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"comfyui_tests_{name}", ROOT / f"tests/comfyui/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


convert = _module("convert")


def definition(kind: str, name: str) -> tuple[Any, dict[str, Any]]:
    """Type and options of an input."""
    for group in ("required", "optional"):
        if name in INFO[kind]["input"].get(group, {}):
            spec = INFO[kind]["input"][group][name]
            return spec[0], spec[1] if len(spec) > 1 else {}
    raise AssertionError(f"{kind} has no input {name!r}")


def test_there_are_seven_and_they_use_every_kind_of_node() -> None:
    assert len(WORKFLOWS) == 7
    used = {node["type"] for path in WORKFLOWS for node in json.loads(path.read_text())["nodes"]}
    assert OWN - used <= {"MCDMLoadMemory"}  # it needs a file that a run has saved


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_fits_the_definitions(path: Path) -> None:
    prompt = convert.to_prompt(json.loads(path.read_text()), INFO)
    for number, node in prompt.items():
        kind = node["class_type"]
        assert kind in INFO
        for name in INFO[kind]["input"].get("required", {}):
            assert name in node["inputs"], f"{path.stem}: node {number} ({kind}) lacks {name}"
        for name, value in node["inputs"].items():
            wanted, options = definition(kind, name)
            if isinstance(value, list):
                source = INFO[prompt[value[0]]["class_type"]]
                assert source["output"][value[1]] == wanted, f"{path.stem}: {kind}.{name}"
                continue
            choices = wanted if isinstance(wanted, list) else options.get("options")
            if choices is not None:
                assert value in choices, f"{path.stem}: {kind}.{name} is {value!r}"
            if "min" in options:
                assert options["min"] <= value <= options["max"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_links_agree_with_their_nodes(path: Path) -> None:
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[target]["inputs"][slot]["type"] == kind
    assert len({link[0] for link in workflow["links"]}) == len(workflow["links"])
    assert any(node["type"] == "SaveVideo" for node in nodes.values())
    assert any(node["type"] == "MarkdownNote" for node in nodes.values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_uses_only_what_ships(path: Path) -> None:
    for node in json.loads(path.read_text())["nodes"]:
        assert not node["type"].startswith(("LoadImage", "LoadAudio", "LoadVideo"))
        if node["type"] == "MCDMSamples":
            for name in node["widgets_values"]:
                assert (ROOT / "mcdm_core/assets/samples" / name).is_file()
        if node["type"] == "MCDMLoadModel":
            assert node["widgets_values"][0] == "tiny (shipped)"


def test_committed_workflows_are_the_builders() -> None:
    builder = _module("build_workflows")
    for name, build in builder.WORKFLOWS.items():
        graph = builder.Graph(INFO)
        build(graph)
        assert json.loads((ROOT / "workflows" / f"{name}.json").read_text()) == json.loads(json.dumps(graph.finished()))
