"""A portrait made ready for the models: face search, crop, latents and tokens."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import FaceNotFoundError, FaceTooSmallError, MCDMError, MediaError
from ..face.compositing.in_bytes import picture_bytes
from ..face.crops import FACE_FRACTION, MIN_FACE_PIXELS, CropTransform, check_box, crop_face, resample_crop
from ..face.reading.face_network import FaceBox, FaceReading
from ..face.reading.orientation import quarter_turns
from ..face.reading.part_reader import DETAIL_SIZE
from ..face.reading.portrait_check import Finding, check_face, lying_face
from ..model import MCDMModel
from ..models.motion_tokens import MotionTokens

if TYPE_CHECKING:
    from ..face.reading.face_track import FaceTrack
    from .pipeline import MCDMPipeline

logger = logging.getLogger(__name__)

_COLOURLESS = 2 / 255
"""Channels of black and white pictures differ by no more than rounding leaves, on average."""


@dataclass(frozen=True)
class Reference:
    """A prepared portrait.

    Attributes:
        image: the portrait [3, h, w] in [0, 1]; crop: the face crop [3, s, s] in [0, 1]; transform: where it lies.
        latents: of the crop [1, c, h, w], or of its parts [p, c, h, w] (``face/parts.py``).
        landmarks: [68, 2] in [0, 1] of the crop; pose [6]; values [16].
        image_tokens: [1, k, d]; motion_tokens: of the crop, streams [1, n, dm].
        faces: all that were found in the portrait, largest first; empty where a box was given.
    """

    image: Tensor
    crop: Tensor
    transform: CropTransform
    latents: Tensor
    landmarks: Tensor
    pose: Tensor
    values: Tensor
    image_tokens: Tensor
    motion_tokens: MotionTokens
    faces: tuple[FaceBox, ...] = ()

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The portrait as bytes [h, w, 3]."""
        return picture_bytes(self.image)

    @cached_property
    def _images(self) -> dict[torch.device, Tensor]:
        return {}

    def image_on(self, device: torch.device) -> Tensor:
        """The portrait on a device, where it stays as long as this reference."""
        if device not in self._images:
            self._images[device] = self.image.to(device)
        return self._images[device]

    @cached_property
    def colourless(self) -> bool:
        """Whether the portrait is black and white; a tint, such as sepia, is a colour."""
        spread = self.crop.amax(0) - self.crop.amin(0)
        return float(spread.mean()) < _COLOURLESS and float(spread.flatten().quantile(0.99)) < 3 * _COLOURLESS


class ReferenceEncoder:
    """From a portrait to a :class:`Reference`."""

    def __init__(self, model: MCDMModel, still_latents: Callable[[Tensor, Tensor], Tensor]) -> None:
        """``still_latents``: of the canvas (``canvas.py``)."""
        self.model, self.still_latents = model, still_latents

    def detect_faces(self, image: Tensor) -> list[tuple[float, float, float, float]]:
        """Boxes (left, top, right, bottom) in pixels of the faces in a portrait [3, h, w] in [0, 1], largest first."""
        return [(face.left, face.top, face.right, face.bottom) for face in self._detect(image)]

    def _detect(self, image: Tensor) -> list[FaceBox]:
        return self.model.face_network.detect((image * 2 - 1).to(self.model.device), twice=False)

    def _turns(self, image: Tensor, score: float, box: Sequence[float] | None = None) -> int:
        """Quarter turns clockwise that a portrait needs, by the score of the face found in it or in a box."""
        place = None if box is None else ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        return quarter_turns(self.model.face_network, (image * 2 - 1).to(self.model.device), score, place)

    @torch.no_grad()
    def encode(self, image: Tensor, box: Sequence[float] | None = None) -> Reference:
        """Find the face, crop it and encode it.

        Args:
            image: portrait [3, h, w] in [0, 1], any size.
            box: the face (left, top, right, bottom) in pixels, roughly; None finds the largest.

        Raises:
            FaceNotFoundError, FaceTooSmallError, MediaError: see the messages; a box can always be given.
        """
        if image.ndim != 3 or image.shape[0] != 3:
            raise MCDMError(f"The portrait has shape {list(image.shape)}; expected [3, h, w] with values in [0, 1].")
        image = image.detach().float().cpu()
        height, width = image.shape[-2:]
        faces = () if box is not None else tuple(self._detect(image))
        box = self._find_face(image, faces) if box is None else self._settle(image, check_box(box, width, height))
        crop, transform = crop_face(image, box, self.model.config.image_size)
        return dataclasses.replace(self._encode_crop(image, crop, transform), faces=faces)

    @torch.no_grad()
    def check_portrait(
        self, image: Tensor, box: Sequence[float] | None = None, reference: Reference | None = None
    ) -> list[Finding]:
        """What is wrong with a portrait; see :meth:`MCDMPipeline.check_portrait`.

        Raises:
            FaceNotFoundError, MediaError: see the messages.
        """
        height, width = image.shape[-2:]
        faces = reference.faces if reference is not None and reference.faces else self._detect(image)
        if box is None and not faces:
            raise self._no_face(image)
        meant = [face for face in faces if box is None or _covers(face, box)]
        if turns := self._turns(image, max((face.score for face in meant), default=0.0), box):
            return [lying_face(turns)]
        if box is not None:
            chosen = self._settle(image, check_box(box, width, height))
        else:
            chosen = (faces[0].left, faces[0].top, faces[0].right, faces[0].bottom)
        network = self.model.face_network
        detail, transform = crop_face(image, chosen, DETAIL_SIZE)
        reading = network((detail * 2 - 1)[None].to(self.model.device))
        others = [face.right - face.left for face in faces[1:]] if box is None else []
        return check_face(detail, reading, transform.side * FACE_FRACTION, others, self.model.config.image_size)

    def _find_face(self, image: Tensor, faces: Sequence[FaceBox]) -> tuple[float, float, float, float]:
        if not faces:
            raise self._no_face(image)
        if turns := self._turns(image, max(face.score for face in faces)):
            raise FaceNotFoundError(f"{lying_face(turns)} To use it as it is, give the face's box yourself.")
        boxes = [(face.left, face.top, face.right, face.bottom) for face in faces]
        if len(boxes) > 1:
            places = [" ".join(f"{side:.0f}" for side in box) for box in boxes]
            logger.warning(
                "%d faces were found; the largest is used (left, top, right, bottom: %s). To choose another, give its "
                "box: %s.",
                len(boxes),
                places[0],
                ", ".join(places[1:]),
            )
        left, _, right, _ = boxes[0]
        if right - left < MIN_FACE_PIXELS:
            raise FaceTooSmallError(
                f"The largest face is {right - left:.0f} pixels wide; at least {MIN_FACE_PIXELS} are needed. "
                "Use a larger or closer picture."
            )
        return boxes[0]

    def _no_face(self, image: Tensor) -> FaceNotFoundError:
        height, width = image.shape[-2:]
        if turns := self._turns(image, 0.0):
            return FaceNotFoundError(f"No face was found. {lying_face(turns)}")
        return FaceNotFoundError(
            f"No face was found in the portrait of {width}x{height} pixels. Use a picture with one face seen "
            "from the front, or give the face's box (left, top, right, bottom, in pixels) yourself."
        )

    def _settle(self, image: Tensor, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Move a hand-drawn box to the framing the models know, if the face network is sure of a face in it.

        Boxes drawn by hand include or leave out foreheads and chins as they please; a crop framed as in training
        makes better pictures. An unsure reading, or one that leads elsewhere, leaves the box as it was drawn.
        """
        size = max(box[2] - box[0], box[3] - box[1])
        start = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, size / FACE_FRACTION)
        signed = (image * 2 - 1).to(self.model.device)
        square, _, confidence = self.model.face_network.refine(signed, start, steps=2, twice=False)
        shift = max(abs(square[0] - start[0]), abs(square[1] - start[1])) / start[2]
        if confidence < 0.6 or shift > 0.3 or not 0.6 < square[2] / start[2] < 1.6:
            return box
        half = square[2] * FACE_FRACTION / 2
        return square[0] - half, square[1] - half, square[0] + half, square[1] + half

    def _encode_crop(self, image: Tensor, crop: Tensor, transform: CropTransform) -> Reference:
        signed = (crop * 2 - 1)[None].to(self.model.device)
        reading = self.read_face(image, transform, signed)
        motion = self.model.motion_codec.encode(at_size(signed, 128)[:, None], reading.landmarks[:, None])
        motion = motion.map(lambda stream: stream[:, 0])
        seen = motion.cat() if self.model.config.image_encoder.kind == "codec" else signed
        return Reference(
            image=image,
            crop=crop,
            transform=transform,
            latents=self.still_latents(signed, reading.landmarks),
            landmarks=reading.landmarks[0],
            pose=reading.pose[0],
            values=reading.values[0],
            image_tokens=self.model.image_encoder(seen),
            motion_tokens=motion,
        )

    @torch.no_grad()
    def read_face(self, image: Tensor, transform: CropTransform, crop: Tensor) -> FaceReading:
        """Read the face of a portrait [3, h, w] in [0, 1]. Gives its crop [1, 3, s, s] in [-1, 1], and what the
        portrait's own pixels add to it."""
        network = self.model.face_network
        if network.parts is None:
            return network(crop)
        detail = resample_crop(image, transform, network.crop_size)[None] * 2 - 1
        return network(crop, detail.to(self.model.device))


def face_box(track: FaceTrack, index: int) -> tuple[float, float, float, float]:
    """The face's box (left, top, right, bottom) in pixels in a frame."""
    x, y, side = track.squares[index].tolist()
    half = side * FACE_FRACTION / 2
    return x - half, y - half, x + half, y + half


def framed_face(pipe: MCDMPipeline, track: FaceTrack, index: int, frame: Tensor) -> Reference | None:
    """A frame of a video as a portrait of its own; None where the face is lost or too small."""
    if not bool(track.found[index]):
        return None
    try:
        return pipe.encode_reference(frame, box=face_box(track, index))
    except (FaceTooSmallError, MediaError):
        return None


def _covers(face: FaceBox, box: Sequence[float]) -> bool:
    """Whether the middle of a box lies in a face."""
    return face.left < (box[0] + box[2]) / 2 < face.right and face.top < (box[1] + box[3]) / 2 < face.bottom


def at_size(images: Tensor, size: int) -> Tensor:
    """Images [b, 3, h, w] at size x size."""
    if images.shape[-1] == size and images.shape[-2] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
