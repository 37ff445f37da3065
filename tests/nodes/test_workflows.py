"""Template workflows against the node definitions that tools/snapshot_schemas.py took from a real server."""

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
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
OWN = {name for name in INFO if name.startswith("MCDM")}


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"comfyui_tests_{Path(path).stem}", ROOT / "tests/comfyui" / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module


convert = _module("harness/convert.py")


def definition(kind: str, name: str) -> tuple[Any, dict[str, Any]]:
    """Type and options of an input."""
    for group in ("required", "optional"):
        if name in INFO[kind]["input"].get(group, {}):
            spec = INFO[kind]["input"][group][name]
            return spec[0], spec[1] if len(spec) > 1 else {}
    raise AssertionError(f"{kind} has no input {name!r}")


def test_there_are_eleven_and_they_use_every_kind_of_node() -> None:
    assert len(WORKFLOWS) == 11
    used = {node["type"] for path in WORKFLOWS for node in json.loads(path.read_text())["nodes"]}
    assert OWN - used <= {"MCDMLoadMemory", "MCDMCleanUpRuns"}  # the one needs a file of a run, the other deletes runs


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
                assert options["min"] <= value <= options.get("max", value)


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
    builder = _module("tools/build_workflows.py")
    for name, build in builder.WORKFLOWS.items():
        graph = builder.Graph(INFO)
        build(graph)
        assert json.loads((ROOT / "workflows" / f"{name}.json").read_text()) == json.loads(json.dumps(graph.finished()))


def test_every_template_has_a_thumbnail_and_a_layout_of_its_own() -> None:
    layouts = _module("tools/pictures/thumbnails.py").LAYOUTS
    assert set(layouts) == {path.stem for path in WORKFLOWS}
    assert len(set(layouts.values())) == len(layouts), "each shows what only it does"
    assert all(path.with_suffix(".jpg").is_file() for path in WORKFLOWS)


OLD = ROOT / "tests" / "nodes" / "workflows_0_1_0"
OLD_INFO: dict[str, Any] = json.loads((OLD / "object_info.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(OLD.glob("mcdm_*.json")), ids=lambda path: path.stem)
def test_workflows_of_0_1_0_still_load(path: Path) -> None:
    """The front end gives widgets their values by position, and links their inputs by name."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    before, now = convert.to_prompt(workflow, OLD_INFO), convert.to_prompt(workflow, INFO)
    assert now == before, "each value goes to the widget it was made for"
    for node in workflow["nodes"]:
        kind = node["type"]
        if not kind.startswith("MCDM"):
            continue
        for slot in node["inputs"]:
            wanted, _ = definition(kind, slot["name"])
            assert slot["type"] == ("COMBO" if isinstance(wanted, list) else wanted), f"{kind}.{slot['name']}"
        for index, output in enumerate(node["outputs"]):
            assert INFO[kind]["output"][index] == output["type"]
        for name, value in now[str(node["id"])]["inputs"].items():
            options = definition(kind, name)[1]
            if not isinstance(value, list) and "min" in options:
                assert options["min"] <= value <= options["max"], f"{kind}.{name}"
    for kind in {node["type"] for node in workflow["nodes"]} & OWN:
        gone = set(INFO[kind]["input"]["required"]) - set(OLD_INFO[kind]["input"]["required"])
        assert not gone, f"prompts of 0.1.0 lack {gone} of {kind}: a new input is optional"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_can_be_read_at_first_sight(path: Path) -> None:
    workflow = json.loads(path.read_text())
    titles = [group["title"] for group in workflow["groups"]]
    assert [int(title.split()[0]) for title in titles] == list(range(1, len(titles) + 1)), "numbered without a gap"
    named = [title.split()[1] for title in titles]
    assert named == [name for name in ("Input", "Motion", "Video") if name in named] and {"Input", "Video"} <= set(
        named
    )
    assert path.stem.startswith("MCDM ")

    def inside(node: dict[str, Any], group: dict[str, Any]) -> bool:
        x, y, width, height = group["bounding"]
        (left, top), (wide, high) = node["pos"], node["size"]
        return x <= left and y <= top - 30 and left + wide <= x + width and top + high <= y + height

    for node in workflow["nodes"]:
        assert sum(inside(node, group) for group in workflow["groups"]) == 1, node["type"]
    boxes = [(node["pos"][0], node["pos"][1] - 30, *node["size"]) for node in workflow["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[index + 1 :]:
            apart = x + width <= other_x or other_x + other_width <= x
            assert apart or y + height <= other_y or other_y + other_height <= y
    note = next(node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    assert len(note["widgets_values"][0]) < 320
