"""From a clip's face crops to frames at the portrait's resolution (``face/compositing/crop.py`` has the steps)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from ..errors import MCDMError
from ..face.compositing.crop import paste_back
from ..model import MCDMModel
from .canvas.canvas import build_canvas
from .canvas.painting import Painting, unit_to_bytes
from .reference import Reference


class FrameFinisher:
    """From a clip's face crops to frames at the portrait's resolution."""

    def __init__(self, model: MCDMModel) -> None:
        self.model, self.canvas = model, build_canvas(model)

    def output_size(self, reference: Reference, *, paste: bool = True) -> tuple[int, int]:
        """Height and width of the frames :meth:`finish` gives."""
        if paste:
            return reference.image.shape[-2], reference.image.shape[-1]
        side = round(reference.transform.side)
        return side, side

    def finish(
        self,
        reference: Reference,
        painting: Painting,
        landmarks: Tensor | None = None,
        *,
        detail: str = "warp",
        paste: bool = True,
        in_bytes: bool = False,
    ) -> Iterator[Tensor]:
        """Finished frames one by one: [1, 3, h, w] in [0, 1].

        Args:
            painting: pictures of a clip; landmarks: of its motion [f, 68, 2], for ``"warp"``.
            detail: ``"warp"`` takes fine detail from the portrait, ``"none"`` only enlarges.
            paste: lay the crops over the portrait; else the crops alone.
            in_bytes: uint8 frames instead, as a video takes them, several times faster (``compositing/in_bytes.py``).

        Raises:
            MCDMError: for another ``detail``, or ``"warp"`` without landmarks.
        """
        if detail == "none":
            frames = enlarged_frames(reference, painting.frames, paste=paste)
            return map(unit_to_bytes, frames) if in_bytes else frames
        if detail != "warp":
            raise MCDMError(f"detail is {detail!r}; expected 'warp' or 'none'.")
        if landmarks is None:
            raise MCDMError("detail 'warp' needs the frames' landmarks [f, 68, 2]; give them, or detail 'none'.")
        landmarks = landmarks.to(self.model.device)
        return self.canvas.finish(reference, painting, landmarks, paste=paste, in_bytes=in_bytes)


def enlarged_frames(reference: Reference, frames: Tensor, *, paste: bool) -> Iterator[Tensor]:
    """Crops [f, 3, s, s] merely enlarged, one by one: [1, 3, h, w] in [0, 1]; ``paste`` lays them over the portrait."""
    side = round(reference.transform.side)
    for frame in frames:
        large = F.interpolate(frame[None], size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        yield paste_back(large, reference.image, reference.transform) if paste else large
