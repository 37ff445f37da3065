"""The workflow inside of a video, as ComfyUI's Save Video writes it: dropped on the page it opens again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import io


def workflow_metadata(node: type[io.ComfyNode]) -> dict[str, str]:
    """Container tags with the prompt and the workflow of a node that asks for both; none with --disable-metadata."""
    from comfy.cli_args import args

    if args.disable_metadata:
        return {}
    tags = dict(node.hidden.extra_pnginfo or {})
    if node.hidden.prompt is not None:
        tags["prompt"] = node.hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}
