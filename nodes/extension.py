"""The list of nodes, and the two routes the front end uses."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import ComfyExtension, io

from ..mcdm_core.samples import list_samples
from .comfy import model_patcher, packages
from .comfy.stop_requests import STOP_REQUESTS
from .loaders import MCDMLoadModel, MCDMSamples
from .memory import MCDMLoadMemory, MCDMMemoryFromVideo, MCDMSaveMemory, MCDMStartMemory
from .motion import MCDMEditMotion, MCDMPlotMotion, MCDMPredictMotion
from .reference import MCDMEmbedAudio, MCDMEncodeReference
from .sampling import MCDMSampleClip, MCDMSampleVideo
from .video import MCDMAssembleVideo, MCDMUpscaleVideo

logger = logging.getLogger(__name__)

NODES: list[type[io.ComfyNode]] = [
    MCDMLoadModel,
    MCDMSamples,
    MCDMEncodeReference,
    MCDMEmbedAudio,
    MCDMStartMemory,
    MCDMMemoryFromVideo,
    MCDMSaveMemory,
    MCDMLoadMemory,
    MCDMPredictMotion,
    MCDMEditMotion,
    MCDMPlotMotion,
    MCDMSampleClip,
    MCDMSampleVideo,
    MCDMAssembleVideo,
    MCDMUpscaleVideo,
]

model_patcher.register_folder()
packages.warn_at_start()


class MCDMExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


def register_routes() -> None:
    """Add ``POST /mcdm/stop_and_keep`` and ``GET /mcdm/info`` to ComfyUI's server, where there is one."""
    from aiohttp import web
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    @server.routes.post("/mcdm/stop_and_keep")
    async def stop_and_keep(request: web.Request) -> web.Response:
        try:
            node = (await request.json())["node"]
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": 'Send the execution id of the node: {"node": "7"}.'}, status=400)
        return web.json_response({"ok": True, "running": STOP_REQUESTS.ask(str(node))})

    @server.routes.get("/mcdm/info")
    async def info(request: web.Request) -> web.Response:
        return web.json_response(_info())


def _info() -> dict[str, Any]:
    from ..mcdm_core import __version__

    return {
        "version": __version__,
        "models": model_patcher.available_models(),
        "presets": ["tiny", "base"],
        "samples": list_samples(),
    }
