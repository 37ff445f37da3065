"""ComfyUI entry point of the MCDM node pack. Nothing heavy is imported before a node runs."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI: the extension with this pack's nodes."""
    from .nodes.extension import MCDMExtension, register_routes

    register_routes()
    return MCDMExtension()
