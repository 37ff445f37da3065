"""The list of nodes, and the routes the front end uses."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from comfy_api.latest import ComfyExtension, io

from ..mcdm_core.errors import MCDMError
from ..mcdm_core.samples import list_samples
from .clean_up import MCDMCleanUpRuns
from .comfy.models import model_patcher, packages
from .comfy.models.working_memory import name_shortages
from .comfy.page.live_faces import LIVE_FACES
from .comfy.page.looks import look_of
from .comfy.page.node_run import JOURNAL
from .comfy.page.stop_requests import STOP_REQUESTS
from .dub import MCDMDubVideo
from .face_editor import MCDMFaceEditor
from .loaders import MCDMLoadModel, MCDMSamples
from .memory import MCDMLoadMemory, MCDMMemoryFromVideo, MCDMSaveMemory, MCDMStartMemory
from .motion import MCDMEditMotion, MCDMPlotMotion, MCDMPredictMotion
from .reference import MCDMEmbedAudio, MCDMEncodeReference
from .sampling import MCDMSampleClip, MCDMSampleVideo
from .talking_portrait import MCDMTalkingPortrait
from .upscale import MCDMUpscaleVideo
from .video import MCDMAssembleVideo

if TYPE_CHECKING:
    from execution import PromptQueue

    from ..mcdm_core.motion.expression_schedule import ExpressionKey

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
    MCDMFaceEditor,
    MCDMPlotMotion,
    MCDMSampleClip,
    MCDMSampleVideo,
    MCDMAssembleVideo,
    MCDMUpscaleVideo,
    MCDMDubVideo,
    MCDMTalkingPortrait,
    MCDMCleanUpRuns,
]

for _node in NODES:
    name_shortages(_node)
model_patcher.register_folder()
packages.warn_at_start()


class MCDMExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


def register_routes() -> None:
    """Add the routes of docs/frontend.md to ComfyUI's server, where there is one."""
    from aiohttp import web
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    @server.routes.post("/mcdm/stop_and_keep")
    async def stop_and_keep(request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            node, prompt = str(asked["node"]), str(asked.get("prompt_id") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"error": 'Send the execution id of the node: {"node": "7"}.'}, status=400)
        return web.json_response({"ok": True, "running": STOP_REQUESTS.ask(node, prompt)})

    @server.routes.post("/mcdm/face")
    async def face(request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            workflow, node, look = str(asked.get("workflow") or ""), str(asked["node"]), look_of(asked["look"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        if not LIVE_FACES.knows(workflow, node):
            return web.json_response({"error": "Run the workflow once."}, status=404)
        if server.prompt_queue.get_current_queue()[0]:
            return web.json_response({"error": "A workflow runs; its models are in use."}, status=409)
        try:
            picture = await asyncio.to_thread(_face_picture, workflow, node, look)
        except MCDMError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.Response(body=picture, content_type="image/jpeg")

    @server.routes.get("/mcdm/runs")
    async def runs(request: web.Request) -> web.Response:
        asked = request.query
        if "workflow" in asked:
            return web.json_response({"runs": JOURNAL.of_workflow(asked["workflow"])})
        events = JOURNAL.of_file(asked.get("filename", ""), asked.get("subfolder", ""), asked.get("type", ""))
        return web.json_response({"runs": [events] if events else []})

    @server.routes.get("/mcdm/workflow")
    async def workflow(request: web.Request) -> web.Response:
        return web.json_response({"workflow": _workflow_of(server.prompt_queue, request.query.get("prompt_id", ""))})

    @server.routes.get("/mcdm/info")
    async def info(request: web.Request) -> web.Response:
        return web.json_response(_info())


def _face_picture(workflow: str, node: str, look: ExpressionKey) -> bytes:
    from .comfy.page.progress import jpeg

    return jpeg(LIVE_FACES.picture(workflow, node, look), quality=90)


def _workflow_of(queue: PromptQueue, prompt_id: str) -> str:
    """Id of the workflow that a running or finished prompt was made from; empty if there is none."""
    running, _ = queue.get_current_queue()
    items = [item for item in running if item[1] == prompt_id]
    items += [entry["prompt"] for entry in queue.get_history(prompt_id=prompt_id).values()]
    for item in items:
        workflow = (item[3].get("extra_pnginfo") or {}).get("workflow") or {}
        return str(workflow.get("id") or "")
    return ""


def _info() -> dict[str, Any]:
    from ..mcdm_core import __version__

    return {
        "version": __version__,
        "models": model_patcher.available_models(),
        "needs": model_patcher.needed_files(),
        "presets": ["tiny", "base"],
        "samples": list_samples(),
    }
