"""Every node, input and output is explained, in the help pages and in both languages, and nothing else is."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFO: dict[str, Any] = {
    name: node
    for name, node in json.loads((ROOT / "tests/nodes/object_info.json").read_text(encoding="utf-8")).items()
    if name.startswith("MCDM")
}


ALIKE = ("box_", "images_")
"""Inputs that come in rows."""


def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "comfyui_texts", ROOT / "tests" / "comfyui" / "tools" / "write_texts.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


writer = _writer()
CHINESE = r"[\u4e00-\u9fff]"


def inputs_of(node: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a node but hidden ones."""
    return {**node["input"].get("required", {}), **node["input"].get("optional", {})}


def test_all_nodes_are_in_the_definitions() -> None:
    source = (ROOT / "nodes" / "extension.py").read_text()
    listed = set(re.findall(r"^    (MCDM\w+),$", source, re.MULTILINE))
    assert listed == set(INFO)


@pytest.mark.parametrize("name", INFO)
def test_node_has_tooltips_and_category(name: str) -> None:
    node = INFO[name]
    assert node["category"] == "MCDM" and node["description"].strip()
    for key, spec in inputs_of(node).items():
        assert spec[1].get("tooltip"), f"{name}.{key} has no tooltip"
    assert all(node["output_tooltips"])
    assert len(node["output_tooltips"]) == len(node["output"])


@pytest.mark.parametrize("name", INFO)
def test_help_page_is_written_from_the_definitions(name: str) -> None:
    path = ROOT / "js" / "docs" / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    assert text == writer.page(INFO[name], text), "run tests/comfyui/tools/write_texts.py"
    assert text.startswith(f"# {INFO[name]['display_name']}\n")
    named = re.findall(r"^- \*\*(\w+)\*\* \(", text, re.MULTILINE)
    assert named == [*inputs_of(INFO[name]), *INFO[name]["output_name"]]
    assert "| --- |" not in text, "tables do not fit the panel"


@pytest.mark.parametrize("name", INFO)
def test_help_page_says_nothing_twice(name: str) -> None:
    text = (ROOT / "js" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    introduction = text.split("## Inputs")[0].split("\n\n")[1:]
    paragraphs = [paragraph.strip() for paragraph in introduction if paragraph.strip()]
    assert paragraphs, "what the node does"
    beginnings = [" ".join(paragraph.split()[:3]) for paragraph in paragraphs]
    assert len(set(beginnings)) == len(beginnings), "two paragraphs that begin alike say the same"
    assert len(paragraphs) == 1 or INFO[name]["description"] not in paragraphs


@pytest.mark.parametrize("name", INFO)
def test_a_tooltip_speaks_of_its_own_input(name: str) -> None:
    tooltips = [spec[1]["tooltip"] for key, spec in inputs_of(INFO[name]).items() if not key.startswith(ALIKE)]
    assert len(set(tooltips)) == len(tooltips)
    assert not [tooltip for tooltip in tooltips if re.search(r"(?<!\w)--[a-z]", tooltip)]


def test_no_help_page_of_a_node_that_is_gone() -> None:
    assert {path.stem for path in (ROOT / "js" / "docs").glob("*.md")} == set(INFO)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_translation_is_complete(language: str) -> None:
    texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert set(texts) == set(INFO)
    for name, node in INFO.items():
        entry = texts[name]
        assert entry["display_name"] and entry["description"]
        assert set(entry["inputs"]) == set(inputs_of(node))
        assert set(entry["outputs"]) == {str(index) for index in range(len(node["output"]))}
        for part in [*entry["inputs"].values(), *entry["outputs"].values()]:
            assert part["name"] and part["tooltip"]


def test_english_file_equals_the_schema() -> None:
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name, node in INFO.items():
        entry = texts[name]
        assert (entry["display_name"], entry["description"]) == (node["display_name"], node["description"]), name
        for key, spec in inputs_of(node).items():
            assert entry["inputs"][key]["tooltip"] == spec[1]["tooltip"], f"{name}.{key}"
        outputs = [(part["name"], part["tooltip"]) for part in entry["outputs"].values()]
        assert outputs == list(zip(node["output_name"], node["output_tooltips"], strict=True)), name


def source_digest(node: dict[str, Any]) -> str:
    """Of all English texts of a node that are translated."""
    texts = [node["display_name"], node["description"], *node["output_name"], *node["output_tooltips"]]
    texts += [f"{key}: {spec[1]['tooltip']}" for key, spec in inputs_of(node).items()]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", INFO)
def test_chinese_was_translated_from_the_present_english(name: str) -> None:
    entry = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))[name]
    sources = json.loads((ROOT / "tests" / "nodes" / "translated_from.json").read_text(encoding="utf-8"))
    now = source_digest(INFO[name])
    assert sources[name] == now, f"bring locales/zh up to date with {name}, then put {now} into translated_from.json"
    assert re.search(CHINESE, entry["description"])
    for part in [*entry["inputs"].values(), *entry["outputs"].values()]:
        assert re.search(CHINESE, part["tooltip"]), part
