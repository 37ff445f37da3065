"""Progress bar with preview, by ComfyUI's own means or by the player's."""

from __future__ import annotations

import base64
import io
import math
import time
from typing import TYPE_CHECKING

import torch

from ..interruption import check_interrupt
from .node_run import NodeRun

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from ....mcdm_core.diffusion.sampling import Callback

PREVIEW_SIZE = 512
SECONDS_BETWEEN_PREVIEWS = 0.5


def player_listens() -> bool:
    """Whether ComfyUI's own page started the prompt: it has our player, other clients have not.

    The page announces itself as one that takes previews with metadata. There ComfyUI's own preview is left out. It
    stays on the node after the end, and the new rendering then tries to play it as the node's video.
    """
    from comfy_api import feature_flags
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None:
        return False
    return feature_flags.supports_feature(server.sockets_metadata, server.client_id, "supports_preview_metadata")


class StepProgress:
    """A bar over all steps of a node, with the latest frame as its preview.

    Args:
        total: number of steps altogether.
        run: of a node with a player, which then shows the latest frame itself.
    """

    def __init__(self, total: int, run: NodeRun | None = None) -> None:
        import comfy.utils

        self.total = max(1, total)
        self.done = 0
        self._player = run if run is not None and player_listens() else None
        self._bar = comfy.utils.ProgressBar(self.total)
        self._shown = -math.inf

    def show(self, frame: torch.Tensor) -> None:
        """Show frame [3, h, w] in [0, 1], at most twice a second: JPEGs cost more than small models' steps do."""
        if time.perf_counter() - self._shown < SECONDS_BETWEEN_PREVIEWS:
            return
        self._shown = time.perf_counter()
        if self._player is not None:
            self._player.send("frame", {"image": data_url(frame)})
        else:
            self._bar.update_absolute(self.done, self.total, ("JPEG", _picture(frame), PREVIEW_SIZE))

    def update(self, done: int) -> None:
        """Move the bar to ``done`` steps; a cancel point."""
        check_interrupt()
        self.done = min(done, self.total)
        self._bar.update_absolute(self.done, self.total)

    def advance(self, steps: int = 1) -> None:
        """Move the bar on by ``steps``."""
        self.update(self.done + steps)

    def callback(self, begin: int, steps: int) -> Callback:
        """A callback ``(done, total, latents)`` for the pipeline that fills ``steps`` of the bar from ``begin``."""

        def report(done: int, total: int, latents: torch.Tensor | None = None) -> None:
            self.update(begin + round(steps * done / max(1, total)))

        return report


def _picture(frame: torch.Tensor) -> PILImage:
    """A frame, thinned to no less than twice ``PREVIEW_SIZE``: one of 48 megapixels would take a second."""
    from PIL import Image

    step = max(1, max(frame.shape[-2:]) // (2 * PREVIEW_SIZE))
    frame = frame[..., ::step, ::step]
    return Image.fromarray(frame.detach().mul(255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).cpu().numpy())


def jpeg(frame: torch.Tensor, quality: int = 80) -> bytes:
    """A frame [3, h, w] in [0, 1] as a JPEG of at most ``PREVIEW_SIZE`` pixels."""
    picture, file = _picture(frame), io.BytesIO()
    picture.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_url(frame: torch.Tensor) -> str:
    """A frame as a JPEG that a page can show without asking for a file."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(frame)).decode("ascii")
