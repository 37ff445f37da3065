"""The canvas of ``tiny``: mouth and eyes are painted, the rest of the portrait moves with the face's own points (C)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from ...errors import MCDMError
from ...face.compositing.crop import SURROUNDINGS, feather_mask, full_resolution_crop, paste_back
from ...face.compositing.in_bytes import MovingPicture, Square, as_tensor, available, picture_bytes
from ...face.compositing.on_device import MovingTensor
from ...face.compositing.parts import lay_parts, move_head, resting_edge
from ...face.crops import grown
from ...face.part_guide import part_guide, part_tokens, part_views, still_parts, true_parts
from ...face.part_places import CROP_CELLS, PartPlaces, part_places
from ...face.part_shapes import SHAPE_WIDTH, part_shapes, shape_tokens
from ...face.parts import moved_squares, reference_squares
from ...face.reference_warp import warp
from ...media.pixels import to_bytes, to_unit
from ...model import MCDMModel
from ...models.inputs.gallery import Gallery
from ..memory import MotionMemory
from ..reference import Reference
from .memory_fallback import in_smaller_parts
from .painting import Painting, handed_over, stays, to_signed, unit_to_bytes


class FaceParts:
    """Mouth and eyes are painted; the rest of the crop is the portrait, warped by the face's own points."""

    def __init__(self, model: MCDMModel) -> None:
        self.model, self.config, self.size = model, model.config, model.config.parts.size

    def still_latents(self, crop: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        return self._encode(still_parts(crop, reference_squares(landmarks), self.size))

    def latents_of(self, reference: Reference, crops: Tensor, landmarks: Tensor) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        parts = true_parts(crops[None], _squares(reference, landmarks)[None], self.size)
        return self._encode(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])

    def places(self, reference: Reference, landmarks: Tensor | None) -> PartPlaces:
        """See :class:`~.canvas.Canvas`.

        Raises:
            MCDMError: without landmarks.
        """
        return part_places(reference.landmarks, _needed(landmarks), self.size)

    def conditions(
        self, reference: Reference, tokens: Tensor, landmarks: Tensor | None, places: PartPlaces | None
    ) -> tuple[Tensor | None, Tensor]:
        """See :class:`~.canvas.Canvas`.

        Raises:
            MCDMError: without landmarks.
        """
        landmarks = _needed(landmarks)
        crop, still = to_signed(reference.crop).to(landmarks), reference.landmarks[None].to(landmarks)
        views = part_views(crop, still, landmarks[None], self.size, places=places)
        guide = part_guide(self._encode, views, reference.latents.to(landmarks.device))
        return guide, part_tokens(tokens, reference.motion_tokens.cat().to(tokens), views)

    def paint(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Painting:
        """See :class:`~.canvas.Canvas`."""
        places = _placed(places)
        if stays(latents):
            painted = self.decode(reference, latents, places, memory)
        else:
            painted = self._decode_shown(reference, latents, places, memory)
        painted = painted.float().clamp(-1, 1)
        if reference.colourless:
            # Networks taught on colour give grey mouths a tint, which nothing else in the picture has.
            painted = painted.mean(2, keepdim=True).expand_as(painted)
        painted = to_bytes(rearrange(painted, "p f c h w -> f p c h w"))
        if not stays(painted):
            painted = painted.cpu()
        places = places.on(painted.device)
        return Painting(_crops(reference, painted, places), painted, places)

    def gallery_of(self, reference: Reference, painting: Painting) -> Gallery | None:
        """See :class:`~.canvas.Canvas`."""
        count = self.config.part_decoder.gallery
        if not count or painting.parts is None or painting.places is None:
            return None
        pictures = rearrange(painting.parts, "f p c h w -> p f c h w")
        seen = Gallery(pictures, rearrange(painting.places.shapes, "f p w -> p f w").cpu().float())
        return seen.most_different(to_bytes(self._still(reference, painting.frames)), count)

    def decode(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Tensor:
        """See :class:`~.canvas.Canvas`."""
        return self._decode(reference, latents, _placed(places), memory, slice(None))

    def _decode_shown(self, reference: Reference, latents: Tensor, places: PartPlaces, memory: MotionMemory) -> Tensor:
        """The same, but where a frame does not show a part (eyes at rest) it is the portrait's own, as in the video.

        A GPU decodes all: to ask it for what is shown costs more.
        """
        shown = places.shown.flatten(2).amax(2) > 0
        if bool(shown.all()):
            return self.decode(reference, latents, places, memory)
        pictures = self._still(reference, latents)[:, None].repeat(1, latents.shape[1], 1, 1, 1)
        for part, of_part in enumerate(shown.unbind(1)):
            frames, own = of_part.nonzero()[:, 0], slice(part, part + 1)
            if len(frames):
                made = self._decode(reference, latents[:, frames], places.chosen(frames), memory, own)
                pictures[part, frames] = made[0].to(pictures)
        return pictures

    def _decode(
        self, reference: Reference, latents: Tensor, places: PartPlaces, memory: MotionMemory, of: slice
    ) -> Tensor:
        """Some of the parts."""
        latents = latents[of]
        decoder, shapes = self.model.part_decoder, places.shapes[None].to(latents)
        with self.model.products():
            if decoder is None:
                flat = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
                return in_smaller_parts(self.model.vae.decode, flat).unflatten(0, latents.shape[:2])
            landmarks = reference.landmarks[None].to(latents)
            squares = reference_squares(landmarks)
            own = part_shapes(landmarks, squares)
            tokens = shape_tokens(shapes, own, SHAPE_WIDTH)[of]
            seen = memory.gallery
            if seen is not None:
                seen = Gallery(to_unit(seen.pictures[of].to(latents.device)), seen.shapes[of].to(latents))
            archive = memory.archive_latents[of].to(latents)
            person = decoder.look(self._still(reference, latents)[of], own.flatten(0, 1)[of], archive, seen)

            def of_frames(which: Tensor) -> Tensor:
                return decoder(latents[:, which], tokens[:, which], person)

            every = torch.arange(latents.shape[1], device=latents.device)
            return in_smaller_parts(of_frames, every, join=partial(torch.cat, dim=1))

    def seen_in(self, reference: Reference, frames: Tensor, landmarks: Tensor) -> Painting:
        """See :class:`~.canvas.Canvas`; a part is hardly larger than what the crop shows of it."""
        places = self.places(reference, landmarks.cpu().float())
        parts = true_parts((frames.cpu() * 2 - 1)[None], places.squares[None], self.size)
        return Painting(frames, to_bytes(rearrange(parts, "p f c h w -> f p c h w")), places)

    def finish(
        self, reference: Reference, painting: Painting, landmarks: Tensor, *, paste: bool, in_bytes: bool
    ) -> Iterator[Tensor]:
        """See :class:`~.canvas.Canvas`; mouth and eyes are shown as they were painted."""
        if painting.parts is None:
            raise MCDMError("This clip holds no painted parts: another model made it. Sample it with this one.")
        places = painting.places or self.places(reference, landmarks.to(painting.parts.device).float())
        if stays(painting.parts):
            frames = _finished_on_device(reference, painting.parts, places, paste=paste)
            return handed_over(map(unit_to_bytes, frames) if in_bytes else frames)
        if in_bytes and available():
            return _finished_in_bytes(reference, painting.parts, places, paste=paste)
        finished = _finished(reference, painting.parts, places, paste=paste)
        return map(unit_to_bytes, finished) if in_bytes else finished

    def _still(self, reference: Reference, like: Tensor) -> Tensor:
        """The portrait's own parts ``[p, 3, k, k]`` in [-1, 1]."""
        squares = reference_squares(reference.landmarks[None].to(like))
        return still_parts(to_signed(reference.crop).to(like), squares, self.size)

    def _encode(self, pictures: Tensor) -> Tensor:
        flat = pictures.contiguous(memory_format=torch.channels_last)
        with self.model.products():
            return in_smaller_parts(self.model.vae.encode, flat).to(pictures.dtype)


def _crops(reference: Reference, painted: Tensor, places: PartPlaces) -> Tensor:
    """Face crops [f, 3, s, s] in [0, 1] on the CPU with their painted parts, uint8 [f, p, 3, k, k]."""
    flow = places.flow[..., CROP_CELLS, CROP_CELLS]
    if stays(painted):
        crop = reference.crop.to(painted.device)
        whole = (0, 0, crop.shape[-1])
        picture = MovingTensor(crop, whole, whole)
        frames = [unit_to_bytes(picture.compose(flow[i], painted[i], places, i)) for i in range(len(painted))]
        return torch.stack(frames).cpu().float() / 255
    crop = reference.crop.cpu()
    if available():
        whole = (0, 0, crop.shape[-1])
        picture = MovingPicture(picture_bytes(crop), whole, whole)
        frames = [as_tensor(picture.compose(flow[i], painted[i], places, i)) for i in range(len(painted))]
        return torch.cat(frames).contiguous().float() / 255
    crops = warp(crop.expand(len(painted), -1, -1, -1), flow)
    shown = to_unit(painted) / 2 + 0.5
    laid = [lay_parts(*frame) for frame in zip(crops, places.squares, shown, places.shown, strict=True)]
    return torch.stack(laid).clamp(0, 1)


@torch.no_grad()
def _finished(reference: Reference, parts: Tensor, places: PartPlaces, *, paste: bool) -> Iterator[Tensor]:
    """Frames one by one, [1, 3, h, w] in [0, 1]."""
    outer = grown(reference.transform, SURROUNDINGS)
    large = full_resolution_crop(reference.image, outer)
    extent = outer.side / reference.transform.side
    margin = (round(outer.side) - round(reference.transform.side)) // 2
    inner = slice(margin, margin + round(reference.transform.side))
    edge = feather_mask(large.shape[-1], 0.02)
    for index, painted in enumerate(parts):
        moved = move_head(large, places.flow[index], extent)
        shown = to_unit(painted) / 2 + 0.5
        picture = lay_parts(moved, places.squares[index], shown, places.shown[index], extent)[None].clamp(0, 1)
        yield paste_back(picture, reference.image, outer, edge) if paste else picture[..., inner, inner]


def _moving(reference: Reference, *, paste: bool) -> tuple[Square, Square, slice]:
    """The face crop and the square that moves with the head, in the portrait, or in that square alone (``paste``);
    and what of either axis is shown."""
    outer = grown(reference.transform, SURROUNDINGS)
    side, moving = round(reference.transform.side), round(outer.side)
    margin = (moving - side) // 2
    if not paste:
        return (margin, margin, side), (0, 0, moving), slice(margin, margin + side)
    crop = round(reference.transform.left), round(reference.transform.top), side
    return crop, (round(outer.left), round(outer.top), moving), slice(None)


@torch.no_grad()
def _finished_in_bytes(reference: Reference, parts: Tensor, places: PartPlaces, *, paste: bool) -> Iterator[Tensor]:
    """The same as uint8, by OpenCV."""
    crop, moving, inner = _moving(reference, paste=paste)
    if paste:
        pixels = reference.pixels
    else:
        pixels = picture_bytes(full_resolution_crop(reference.image, grown(reference.transform, SURROUNDINGS)))
    picture = MovingPicture(pixels, crop, moving)
    for index, painted in enumerate(parts):
        yield as_tensor(picture.compose(resting_edge(places.flow[index]), painted, places, index)[inner, inner])


@torch.no_grad()
def _finished_on_device(reference: Reference, parts: Tensor, places: PartPlaces, *, paste: bool) -> Iterator[Tensor]:
    """The same in [0, 1] where the parts are."""
    crop, moving, inner = _moving(reference, paste=paste)
    image = reference.image_on(parts.device)
    if not paste:
        image = full_resolution_crop(image, grown(reference.transform, SURROUNDINGS))
    picture, flow = MovingTensor(image, crop, moving), resting_edge(places.flow)
    for index, painted in enumerate(parts):
        yield picture.compose(flow[index], painted, places, index)[None, :, inner, inner]


def _squares(reference: Reference, landmarks: Tensor) -> Tensor:
    """Squares ``[f, 2, 2, 3]`` of frames with landmarks ``[f, 68, 2]``."""
    still = reference.landmarks[None].to(landmarks)
    return moved_squares(reference_squares(still), still, landmarks[None])[0]


def _placed(places: PartPlaces | None) -> PartPlaces:
    if places is None:
        raise MCDMError("Painting parts of a face needs their places in the frames; give them.")
    return places


def _needed(landmarks: Tensor | None) -> Tensor:
    if landmarks is None:
        raise MCDMError("Painting parts of a face needs the motion's landmarks [f, 68, 2]; give them.")
    return landmarks
