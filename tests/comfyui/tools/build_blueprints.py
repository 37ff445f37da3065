"""Writes the subgraph blueprints: templates whose samples have become a subgraph's inputs, and whose video its output.

Run ``python tests/comfyui/tools/build_blueprints.py`` after build_workflows.py; the result is committed.
ComfyUI 0.3.67 and newer offer them in the node library.
"""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1] / "harness")]

from build_workflows import ROOT, SNAPSHOT, WORKFLOWS, Graph  # noqa: E402
from convert import widget_names  # noqa: E402

FOLDER = ROOT / "subgraphs"
INPUT, OUTPUT = -10, -20
"""Ids of a subgraph's two ends."""


@dataclass(frozen=True)
class Blueprint:
    """A template to be wrapped; ``shown`` are the widgets, by type of node, that its one node shows."""

    template: str
    description: str
    shown: tuple[tuple[str, str], ...]


SAMPLER = (("MCDMSampleVideo", "seed"), ("MCDMSampleVideo", "filename_prefix"), ("MCDMAssembleVideo", "compose"))
BLUEPRINTS = {
    "MCDM Talking portrait in steps": Blueprint(
        "MCDM 02 Step by step",
        "A portrait and a voice become a talking video. Open it to see and change every step.",
        (("MCDMSampleVideo", "expression"), ("MCDMSampleVideo", "head_movement"), *SAMPLER),
    ),
    "MCDM Talking portrait, motion edited": Blueprint(
        "MCDM 05 Motion edited by hand",
        "As above, with the motion predicted first and changed before it becomes pictures.",
        (("MCDMEditMotion", "head_scale"), ("MCDMEditMotion", "expression"), ("MCDMEditMotion", "strength"), *SAMPLER),
    ),
}


def identifier(*words: str) -> str:
    """The same id for the same words, so that rebuilding changes nothing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "mcdm/" + "/".join(words)))


def build(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """A blueprint file: a workflow of one node, whose definition is the wrapped template."""
    blueprint = BLUEPRINTS[name]
    graph = Graph(info)
    WORKFLOWS[blueprint.template](graph)
    workflow = graph.finished()
    kinds = {node["id"]: node["type"] for node in workflow["nodes"]}
    nodes = [node for node in workflow["nodes"] if node["type"] not in ("MCDMSamples", "SaveVideo", "MarkdownNote")]
    links = []
    inputs = [_end(name, "in", "image", "IMAGE", 0), _end(name, "in", "audio", "AUDIO", 1)]
    outputs = [_end(name, "out", "video", "VIDEO", 0)]
    for number, source, index, target, slot, kind in workflow["links"]:
        if kinds[source] == "MCDMSamples":
            inputs[index]["linkIds"].append(number)
            source = INPUT
        if kinds[target] == "SaveVideo":
            outputs[0]["linkIds"].append(number)
            target, slot = OUTPUT, 0
        links.append(
            {
                "id": number,
                "origin_id": source,
                "origin_slot": index,
                "target_id": target,
                "target_slot": slot,
                "type": kind,
            }
        )
    for node in nodes:
        if node["type"] == "MCDMEmbedAudio":  # the whole voice, not the template's few seconds
            node["widgets_values"][widget_names(info["MCDMEmbedAudio"]).index("duration")] = 0.0
    left = min(node["pos"][0] for node in nodes)
    right = max(node["pos"][0] + node["size"][0] for node in nodes)
    definition = {
        "id": identifier(name),
        "version": 1,
        "state": {"lastGroupId": 3, "lastNodeId": 0, "lastLinkId": 0, "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INPUT, "bounding": [left - 220, 100, 120, 80]},
        "outputNode": {"id": OUTPUT, "bounding": [right + 100, 100, 120, 60]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": nodes,
        "groups": [group for group in workflow["groups"] if _holds(group, nodes)],
        "links": links,
        "extra": {},
        "category": "MCDM",
        "description": blueprint.description,
    }
    definition["state"] |= {"lastNodeId": workflow["last_node_id"], "lastLinkId": workflow["last_link_id"]}
    shown = [[str(node["id"]), widget] for kind, widget in blueprint.shown for node in nodes if node["type"] == kind]
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_instance(name, definition, shown)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {},
    }


def _end(name: str, side: str, label: str, kind: str, row: int) -> dict[str, Any]:
    return {"id": identifier(name, side, label), "name": label, "type": kind, "linkIds": [], "pos": [0, 120 + 20 * row]}


def _holds(group: dict[str, Any], nodes: list[dict[str, Any]]) -> bool:
    x, y, width, height = group["bounding"]
    return any(x <= node["pos"][0] < x + width and y <= node["pos"][1] < y + height for node in nodes)


def _instance(name: str, definition: dict[str, Any], shown: list[list[str]]) -> dict[str, Any]:
    """The node that stands for the subgraph."""
    return {
        "id": 1,
        "type": definition["id"],
        "pos": [100, 100],
        "size": [340, 200],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{"name": end["name"], "type": end["type"], "link": None} for end in definition["inputs"]],
        "outputs": [{"name": end["name"], "type": end["type"], "links": []} for end in definition["outputs"]],
        "properties": {"proxyWidgets": shown},
        "widgets_values": [],
        "title": name,
    }


def main() -> None:
    """Write them all."""
    info = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    FOLDER.mkdir(exist_ok=True)
    for name in BLUEPRINTS:
        (FOLDER / f"{name}.json").write_text(json.dumps(build(name, info), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
