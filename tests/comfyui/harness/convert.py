"""Workflow files (as the front end saves them) to prompts (as the server runs them), for the nodes our templates use.

The front end's own ``graphToPrompt`` is the reference; the browser test compares with it.
"""

from __future__ import annotations

from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOT_RUN = {"MarkdownNote", "Note"}


def widget_names(definition: dict[str, Any]) -> list[str]:
    """Names of a node's widgets in the order of ``widgets_values``; the seed's control has a name of its own."""
    names: list[str] = []
    for group in ("required", "optional"):
        for name, spec in definition["input"].get(group, {}).items():
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if isinstance(kind, list) or kind in WIDGETS:
                if options.get("forceInput"):
                    continue
                names.append(name)
                if options.get("control_after_generate"):
                    names.append(f"{name}:control")
    return names


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt of a workflow.

    Args:
        workflow: in UI format.
        object_info: definitions by node type (the committed snapshot).
    """
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt: dict[str, Any] = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_RUN:
            continue
        names = widget_names(object_info[node["type"]])
        values = dict(zip(names, node.get("widgets_values", []), strict=False))
        inputs: dict[str, Any] = {name: value for name, value in values.items() if not name.endswith(":control")}
        for socket in node.get("inputs", []):
            if socket.get("link") is not None:
                inputs[socket["name"]] = list(links[socket["link"]])
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
