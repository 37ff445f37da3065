"""Writes what follows from the node definitions: the lists of the help pages, and the English translation file.

Run ``python tests/comfyui/tools/write_texts.py`` after snapshot_schemas.py. A help page's introduction and its
"Good to know" are written by hand and kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
INFO = ROOT / "tests" / "nodes" / "object_info.json"
ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"


def inputs_of(node: dict[str, Any]) -> dict[str, Any]:
    """All inputs of a node but hidden ones."""
    return {**node["input"].get("required", {}), **node["input"].get("optional", {})}


def input_line(name: str, spec: list[Any], optional: bool) -> str:
    """An input's line: name, type, meaning, and range and default of a number."""
    kind = "COMBO" if isinstance(spec[0], list) else spec[0]
    options = spec[1]
    line = f"- **{name}** ({kind}{', optional' if optional else ''}): {options['tooltip']}"
    if kind in ("INT", "FLOAT") and options["max"] < 2**63:
        line += f" ({options['min']:g} to {options['max']:g}, default {options['default']:g})"
    return line


def lists(node: dict[str, Any]) -> str:
    """The two lists of a help page."""
    given = [
        input_line(name, spec, group == "optional")
        for group in ("required", "optional")
        for name, spec in node["input"].get(group, {}).items()
    ]
    made = [
        f"- **{name}** ({kind}): {tooltip}"
        for name, kind, tooltip in zip(node["output_name"], node["output"], node["output_tooltips"], strict=True)
    ]
    return "## Inputs\n\n" + "\n".join(given) + "\n\n## Outputs\n\n" + "\n".join(made) + "\n"


def page(node: dict[str, Any], old: str) -> str:
    """A help page with new lists."""
    introduction = re.match(r"# .*?\n\n(.*?)\n+(?=## |\Z)", old, re.DOTALL)
    paragraphs = introduction[1].split("\n\n") if introduction else [node["description"]]
    kept = [paragraph for paragraph in paragraphs if paragraph.strip() != node["description"]] or [node["description"]]
    notes = re.search(r"^## Good to know\n.*", old, re.DOTALL | re.MULTILINE)
    text = f"# {node['display_name']}\n\n" + "\n\n".join(kept) + "\n\n" + lists(node)
    return text + ("\n" + notes[0].rstrip() + "\n" if notes else "")


def english(node: dict[str, Any]) -> dict[str, Any]:
    """A node's entry of the English file."""
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {
            name: {"name": name.replace("_", " "), "tooltip": spec[1]["tooltip"]}
            for name, spec in inputs_of(node).items()
        },
        "outputs": {
            str(index): {"name": name, "tooltip": tooltip}
            for index, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
        },
    }


def main() -> None:
    """Write them all."""
    info = json.loads(INFO.read_text(encoding="utf-8"))
    ours = {name: node for name, node in info.items() if name.startswith("MCDM")}
    for name, node in ours.items():
        path = ROOT / "js" / "docs" / f"{name}.md"
        old = path.read_text(encoding="utf-8") if path.is_file() else f"# {node['display_name']}\n"
        path.write_text(page(node, old), encoding="utf-8")
    entries = {name: english(node) for name, node in ours.items()}
    ENGLISH.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
