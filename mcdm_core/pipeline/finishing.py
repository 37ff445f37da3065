"""From a clip's face crops to frames at the portrait's resolution (``face/compositing.py`` has the steps)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MCDMError
from ..face.compositing import (
    SURROUNDINGS,
    feather_mask,
    full_resolution_crop,
    head_mask,
    move_surroundings,
    paste_back,
    transfer_detail,
)
from ..face.crops import grown
from ..face.reference_warp import warp_reference
from ..model import MCDMModel
from .reference import Reference


class FrameFinisher:
    """From a clip's face crops to frames at the portrait's resolution."""

    def __init__(self, model: MCDMModel) -> None:
        self.model = model

    def output_size(self, reference: Reference, *, paste: bool = True) -> tuple[int, int]:
        """Height and width of the frames :meth:`finish` gives."""
        if paste:
            return reference.image.shape[-2], reference.image.shape[-1]
        side = round(reference.transform.side)
        return side, side

    def finish(
        self,
        reference: Reference,
        frames: Tensor,
        landmarks: Tensor | None = None,
        *,
        detail: str = "warp",
        paste: bool = True,
    ) -> Iterator[Tensor]:
        """Finished frames one by one: [1, 3, h, w] in [0, 1].

        Args:
            frames: face crops [f, 3, s, s] in [0, 1]; landmarks: theirs [f, 68, 2], for ``"warp"``.
            detail: ``"warp"`` takes fine detail from the portrait, ``"none"`` only enlarges.
            paste: lay the crops over the portrait; else the crops alone.

        Raises:
            MCDMError: for another ``detail``, or ``"warp"`` without landmarks.
        """
        if detail == "none":
            return enlarged_frames(reference, frames, paste=paste)
        if detail != "warp":
            raise MCDMError(f"detail is {detail!r}; expected 'warp' or 'none'.")
        if landmarks is None:
            raise MCDMError("detail 'warp' needs the frames' landmarks [f, 68, 2]; give them, or detail 'none'.")
        return detailed_frames(self.model.vae, reference, frames, landmarks.to(self.model.device), paste=paste)


def enlarged_frames(reference: Reference, frames: Tensor, *, paste: bool) -> Iterator[Tensor]:
    """Crops [f, 3, s, s] merely enlarged, one by one: [1, 3, h, w] in [0, 1]; ``paste`` lays them over the portrait."""
    side = round(reference.transform.side)
    for frame in frames:
        large = F.interpolate(frame[None], size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        yield paste_back(large, reference.image, reference.transform) if paste else large


@torch.no_grad()
def detailed_frames(
    vae: nn.Module, reference: Reference, frames: Tensor, landmarks: Tensor, *, paste: bool
) -> Iterator[Tensor]:
    """Crops with the portrait's own fine detail, one by one: [1, 3, h, w] in [0, 1].

    Args:
        vae: the model's autoencoder.
        frames: generated crops [f, 3, s, s] in [0, 1] on the CPU; landmarks: theirs [f, 68, 2], on the
            model's device.
        paste: lay them over the portrait, with the head's surroundings moved; else the crops alone.
    """
    transform, still = reference.transform, reference.landmarks.cpu()
    side = round(transform.side)
    outer = grown(transform, SURROUNDINGS)
    surroundings = full_resolution_crop(reference.image, outer)
    margin = (round(outer.side) - side) // 2
    inner = (..., slice(margin, margin + side), slice(margin, margin + side))
    mask = feather_mask(side)
    warped = warp_reconstructed(vae, reference, landmarks)
    landmarks = landmarks.cpu()
    for index in range(len(frames)):
        now = slice(index, index + 1)
        here = landmarks[now]
        moved = move_surroundings(surroundings, here, still, outer.side / transform.side)
        shown = mask * head_mask(here, still, side)
        moved[inner] = transfer_detail(moved[inner], frames[now], warped[now], shown)
        # The flow ends inside the square; the mask only hides rounding at its edge.
        edge = feather_mask(moved.shape[-1], 0.02)
        yield paste_back(moved, reference.image, outer, edge) if paste else moved[inner]


def warp_reconstructed(vae: nn.Module, reference: Reference, landmarks: Tensor) -> Tensor:
    """The warped reference crop through the autoencoder: [f, 3, s, s] in [0, 1] on the CPU; landmarks [f, 68, 2]."""
    device, count = landmarks.device, len(landmarks)
    crop = (reference.crop * 2 - 1)[None].to(device).expand(count, -1, -1, -1)
    warped = warp_reference(crop, landmarks, reference.landmarks[None].to(device).expand(count, -1, -1))
    return vae.decode(vae.encode(warped)).clamp(-1, 1).float().cpu() / 2 + 0.5
