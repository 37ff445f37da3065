"""Progress bar with preview, ComfyUI's interrupt, and the events the player in the browser listens to."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

PREVIEW_SIZE = 512


def check_interrupt() -> None:
    """Raise ComfyUI's interruption if the user pressed Cancel.

    Called at each step, since newer versions throttle the progress bar's own check.
    """
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def send_event(name: str, data: dict[str, Any]) -> None:
    """Send ``mcdm.<name>`` to the browser that started the prompt; without a server nothing happens."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(f"mcdm.{name}", _finite(data), server.client_id)


def _finite(value: Any) -> Any:
    """The same value with NaN and infinity replaced by None, which JSON in the browser can read."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


class StepProgress:
    """A bar over all steps of a node, with the latest frame as its preview.

    Args:
        total: number of steps altogether.
    """

    def __init__(self, total: int) -> None:
        import comfy.utils

        self.total = max(1, total)
        self.done = 0
        self._bar = comfy.utils.ProgressBar(self.total)
        self._preview: tuple[str, Any, int] | None = None
        self._shown = 0.0

    def show(self, frame: torch.Tensor) -> None:
        """Take frame [3, h, w] in [0, 1] as the preview from now on."""
        from PIL import Image

        pixels = frame.detach().mul(255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).cpu().numpy()
        self._preview = ("JPEG", Image.fromarray(pixels), PREVIEW_SIZE)
        self._shown = 0.0
        self.update(self.done)

    def update(self, done: int) -> None:
        """Move the bar to ``done`` steps; a cancel point."""
        check_interrupt()
        self.done = min(done, self.total)
        # A JPEG for every step would cost more than small models' steps do.
        now = time.perf_counter()
        preview = self._preview if now - self._shown > 0.5 else None
        if preview is not None:
            self._shown = now
        self._bar.update_absolute(self.done, self.total, preview)

    def advance(self, steps: int = 1) -> None:
        """Move the bar on by ``steps``."""
        self.update(self.done + steps)

    def callback(self, begin: int, steps: int) -> Any:
        """A callback ``(done, total, latents)`` for the pipeline that fills ``steps`` of the bar from ``begin``."""

        def report(done: int, total: int, latents: torch.Tensor | None = None) -> None:
            self.update(begin + round(steps * done / max(1, total)))

        return report
