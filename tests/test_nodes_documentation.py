"""Every node, input and output is explained, in the help pages and in both languages, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
INFO: dict[str, Any] = {
    name: node
    for name, node in json.loads((ROOT / "tests/data/object_info.json").read_text(encoding="utf-8")).items()
    if name.startswith("MCDM")
}


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
    if language == "en":
        for name, node in INFO.items():
            for key, spec in inputs_of(node).items():
                assert texts[name]["inputs"][key]["tooltip"] == spec[1]["tooltip"]
    else:
        assert all(re.search(r"[\u4e00-\u9fff]", entry["description"]) for entry in texts.values())
