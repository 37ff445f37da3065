"""The canvas of the paper: the whole face crop is painted."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...face.compositing.crop import (
    SURROUNDINGS,
    feather_mask,
    full_resolution_crop,
    head_mask,
    move_surroundings,
    paste_back,
    transfer_detail,
)
from ...face.crops import grown
from ...face.part_places import PartPlaces
from ...face.reference_warp import warp_guide, warp_reference
from ...model import MCDMModel
from ...models.vae import Autoencoder
from ..memory import MotionMemory
from ..reference import Reference
from .memory_fallback import in_smaller_parts
from .painting import Painting, handed_over, stays, to_signed, unit_to_bytes


class WholeCrop:
    """The whole crop is painted, from noise (the paper) or from the warped reference (``unet.warped_reference``)."""

    def __init__(self, model: MCDMModel) -> None:
        self.model, self.config = model, model.config

    def still_latents(self, crop: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        return self._encode(crop)

    def latents_of(self, reference: Reference, crops: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        return self._encode(crops)[None]

    def places(self, reference: Reference, landmarks: Tensor | None) -> None:
        """See :class:`~.canvas.Canvas`."""

    def conditions(
        self, reference: Reference, tokens: Tensor, landmarks: Tensor | None, places: PartPlaces | None
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`~.canvas.Canvas`."""
        if not self.config.unet.warped_reference or landmarks is None:
            return None, tokens
        signed = to_signed(reference.crop).to(landmarks.device)
        still = reference.landmarks[None].to(landmarks)
        return warp_guide(self._encode, signed, still, landmarks[None])[0], tokens

    def paint(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Painting:
        """See :class:`~.canvas.Canvas`."""
        painted = self.decode(reference, latents, places, memory)[0].float().clamp(-1, 1) / 2 + 0.5
        return Painting(painted.cpu(), there=painted if stays(painted) else None)

    def gallery_of(self, reference: Reference, painting: Painting) -> None:
        """See :class:`~.canvas.Canvas`."""

    def decode(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        with self.model.products():
            vae = self.model.vae
            return in_smaller_parts(vae.decode, latents[0], in_tiles=vae.in_tiles)[None]

    def seen_in(self, reference: Reference, frames: Tensor, landmarks: Tensor) -> Painting:
        """See :class:`~.canvas.Canvas`."""
        return Painting(frames)

    def finish(
        self, reference: Reference, painting: Painting, landmarks: Tensor, *, paste: bool, in_bytes: bool
    ) -> Iterator[Tensor]:
        """See :class:`~.canvas.Canvas`; the portrait's own fine detail comes back (``face/compositing/crop.py``)."""
        crops = painting.frames if painting.there is None else painting.there
        frames = detailed_frames(self.model.vae, reference, crops, landmarks, paste=paste)
        frames = map(unit_to_bytes, frames) if in_bytes else frames
        return frames if painting.there is None else handed_over(frames)

    def _encode(self, pictures: Tensor) -> Tensor:
        with self.model.products():
            vae = self.model.vae
            return in_smaller_parts(vae.encode, pictures, in_tiles=vae.in_tiles).to(pictures.dtype)


@torch.no_grad()
def detailed_frames(
    vae: Autoencoder, reference: Reference, frames: Tensor, landmarks: Tensor, *, paste: bool
) -> Iterator[Tensor]:
    """Crops with the portrait's own fine detail, one by one: [1, 3, h, w] in [0, 1].

    Args:
        vae: the model's autoencoder.
        frames: generated crops [f, 3, s, s] in [0, 1], where finishing is done; landmarks: theirs [f, 68, 2], on
            the model's device.
        paste: lay them over the portrait, with the head's surroundings moved; else the crops alone.
    """
    device, transform = frames.device, reference.transform
    still, image = reference.landmarks.to(device), reference.image_on(device)
    side = round(transform.side)
    outer = grown(transform, SURROUNDINGS)
    surroundings = full_resolution_crop(image, outer)
    margin = (round(outer.side) - side) // 2
    inner = (..., slice(margin, margin + side), slice(margin, margin + side))
    mask = feather_mask(side, device=device)
    # The flow ends inside the square; the mask only hides rounding at its edge.
    edge = feather_mask(surroundings.shape[-1], 0.02, device)
    warped = warp_reconstructed(vae, reference, landmarks).to(device)
    landmarks = landmarks.to(device)
    for index in range(len(frames)):
        now = slice(index, index + 1)
        here = landmarks[now]
        moved = move_surroundings(surroundings, here, still, outer.side / transform.side)
        shown = mask * head_mask(here, still, side)
        moved[inner] = transfer_detail(moved[inner], frames[now], warped[now], shown)
        yield paste_back(moved, image, outer, edge) if paste else moved[inner]


def warp_reconstructed(vae: Autoencoder, reference: Reference, landmarks: Tensor) -> Tensor:
    """The reference crop as the autoencoder shows it, warped: [f, 3, s, s] in [0, 1]; landmarks [f, 68, 2].

    Once through the autoencoder for all frames: each warped frame through it gives the same pictures but for 47 dB.
    """
    device, count = landmarks.device, len(landmarks)
    shown = vae.decode(vae.encode(to_signed(reference.crop).to(device))).float().expand(count, -1, -1, -1)
    warped = warp_reference(shown, landmarks, reference.landmarks[None].to(device).expand(count, -1, -1))
    return warped.clamp(-1, 1) / 2 + 0.5
