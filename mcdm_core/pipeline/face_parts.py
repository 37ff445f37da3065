"""The canvas of ``tiny``: mouth and eyes are painted, the rest of the portrait moves with the face's own points (C)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import MCDMError
from ..face.compositing import SURROUNDINGS, feather_mask, full_resolution_crop, paste_back
from ..face.crops import grown
from ..face.outer_warp import outer_flow
from ..face.part_compositing import lay_parts, move_head
from ..face.part_guide import part_guide, part_tokens, part_views, still_parts, true_parts
from ..face.parts import moved_squares, reference_squares, unknown_regions
from ..face.reference_warp import warp
from ..media.pixels import to_bytes, to_unit
from ..model import MCDMModel
from .memory_fallback import in_smaller_parts
from .painting import Painting, to_signed
from .reference import Reference


class FaceParts:
    """Mouth and eyes are painted; the rest of the crop is the portrait, warped by the face's own points."""

    def __init__(self, model: MCDMModel) -> None:
        self.vae, self.config, self.size = model.vae, model.config, model.config.parts.size

    def still_latents(self, crop: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        return self._encode(still_parts(crop, reference_squares(landmarks), self.size))

    def latents_of(self, reference: Reference, crops: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        squares = self._squares(reference, landmarks)
        parts = true_parts(crops[None], squares[None], self.size)
        return self._encode(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])

    def conditions(
        self, reference: Reference, tokens: Tensor, landmarks: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`~.canvas.Canvas`.

        Raises:
            MCDMError: without landmarks.
        """
        landmarks = _needed(landmarks)
        crop, still = to_signed(reference.crop).to(landmarks), reference.landmarks[None].to(landmarks)
        views = part_views(crop, still, landmarks[None], self.size)
        guide = part_guide(self._encode, views, reference.latents.to(landmarks.device))
        return guide, part_tokens(tokens, reference.motion_tokens.cat().to(tokens), views)

    def paint(self, reference: Reference, latents: Tensor, landmarks: Tensor | None) -> Painting:
        """See :class:`~.canvas.Canvas`."""
        landmarks = _needed(landmarks)
        frames = latents.shape[1]
        flat = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        painted = in_smaller_parts(self.vae.decode, flat).clamp(-1, 1).float()
        painted = to_bytes(painted.unflatten(0, (-1, frames)).transpose(0, 1)).cpu()
        landmarks, still = landmarks.cpu().float(), reference.landmarks.cpu().float()
        crops = warp(
            reference.crop.cpu().expand(frames, -1, -1, -1), outer_flow(still.expand_as(landmarks), landmarks, 32)
        )
        squares = self._squares(reference, landmarks)
        regions = self._regions(reference, landmarks, squares)
        pictures = [
            lay_parts(*frame) for frame in zip(crops, squares, to_unit(painted) / 2 + 0.5, regions, strict=True)
        ]
        return Painting(torch.stack(pictures).clamp(0, 1), painted)

    def seen_in(self, reference: Reference, frames: Tensor, landmarks: Tensor) -> Painting:
        """See :class:`~.canvas.Canvas`; a part is hardly larger than what the crop shows of it."""
        squares = self._squares(reference, landmarks.cpu().float())
        parts = true_parts((frames.cpu() * 2 - 1)[None], squares[None], self.size)
        return Painting(frames, to_bytes(parts.transpose(0, 1)))

    @torch.no_grad()
    def finish(self, reference: Reference, painting: Painting, landmarks: Tensor, *, paste: bool) -> Iterator[Tensor]:
        """See :class:`~.canvas.Canvas`; mouth and eyes are shown as they were painted."""
        if painting.parts is None:
            raise MCDMError("This clip holds no painted parts: another model made it. Sample it with this one.")
        landmarks, still = landmarks.cpu().float(), reference.landmarks.cpu().float()
        squares = self._squares(reference, landmarks)
        regions = self._regions(reference, landmarks, squares)
        outer = grown(reference.transform, SURROUNDINGS)
        large = full_resolution_crop(reference.image, outer)
        extent = outer.side / reference.transform.side
        margin = (round(outer.side) - round(reference.transform.side)) // 2
        inner = slice(margin, margin + round(reference.transform.side))
        edge = feather_mask(large.shape[-1], 0.02)
        for index, points in enumerate(landmarks):
            moved = move_head(large, still, points, extent)
            painted = to_unit(painting.parts[index]) / 2 + 0.5
            picture = lay_parts(moved, squares[index], painted, regions[index], extent)[None].clamp(0, 1)
            yield paste_back(picture, reference.image, outer, edge) if paste else picture[..., inner, inner]

    def _squares(self, reference: Reference, landmarks: Tensor) -> Tensor:
        """Squares ``[f, 2, 2, 3]`` of frames with landmarks ``[f, 68, 2]``."""
        still = reference.landmarks[None].to(landmarks)
        return moved_squares(reference_squares(still), still, landmarks[None])[0]

    def _regions(self, reference: Reference, landmarks: Tensor, squares: Tensor) -> Tensor:
        """What is painted in these squares, ``[f, 2, 1, s, s]``."""
        still = reference.landmarks[None].to(landmarks)
        own, count = reference_squares(still), len(landmarks)
        return unknown_regions(
            still.expand(count, -1, -1), own.expand(count, -1, -1, -1), landmarks, squares, self.size
        )

    def _encode(self, pictures: Tensor) -> Tensor:
        return self.vae.encode(pictures.contiguous(memory_format=torch.channels_last))


def _needed(landmarks: Tensor | None) -> Tensor:
    if landmarks is None:
        raise MCDMError("Painting parts of a face needs the motion's landmarks [f, 68, 2]; give them.")
    return landmarks
