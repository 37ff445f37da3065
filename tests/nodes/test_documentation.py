"""Every node, input and output is explained, in the help pages and in both languages, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
INFO: dict[str, Any] = {
    name: node
    for name, node in json.loads((ROOT / "tests/nodes/object_info.json").read_text(encoding="utf-8")).items()
    if name.startswith("MCDM")
}


CHINESE = r"[\u4e00-\u9fff]"


def inputs_of(node: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a node but hidden ones."""
    return {**node["input"].get("required", {}), **node["input"].get("optional", {})}


def test_all_nodes_are_in_the_definitions() -> None:
    source = (ROOT / "nodes" / "extension.py").read_text()
    listed = set(re.findall(r"^    (MCDM\w+),$", source, re.M))
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
def test_help_page_names_each_input_and_output(name: str) -> None:
    text = (ROOT / "js" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {INFO[name]['display_name']}\n")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text, re.M)
    expected = [*inputs_of(INFO[name]), *INFO[name]["output_name"]]
    assert [row[0] for row in rows] == expected
    tooltips = [spec[1]["tooltip"] for spec in inputs_of(INFO[name]).values()] + INFO[name]["output_tooltips"]
    for (key, _, meaning), tooltip in zip(rows, tooltips, strict=True):
        assert meaning.startswith(tooltip), f"{name}.{key}: the help page and the tooltip say different things"


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


@pytest.mark.parametrize("name", INFO)
def test_help_page_gives_ranges_and_defaults(name: str) -> None:
    text = (ROOT / "js" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for key, spec in inputs_of(INFO[name]).items():
        found = re.search(rf"^\| `{key}` \|.*\(([\d.-]+) to ([\d.-]+), default ([\d.-]+)\) \|$", text, re.M)
        if found:
            assert [float(part) for part in found.groups()] == [spec[1][of] for of in ("min", "max", "default")], key
