"""Head movement taken over from a driver video (the landmark condition of paper section 3.3).

The face network reads the driver's landmarks in a crop that stays fixed. They are laid onto the portrait's own face as
movement from the driver's first frame. Absolute ones would give the portrait the driver's shape and place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import FaceNotFoundError, MediaError
from ..face.crops import crop_face
from ..face.reading.face_network import FaceNetwork
from .reference import at_size

if TYPE_CHECKING:
    from .pipeline import MCDMPipeline, Reference

_READ_AT_A_TIME = 32
_LOOK_EVERY = 3
"""Of so many frames one is searched for the first face."""
_LONGEST_WAIT = 1500
"""Frames without a face at the beginning, a minute at 25 frames a second."""


def driver_landmarks(pipe: MCDMPipeline, reference: Reference, frames: Iterable[Tensor], count: int) -> Tensor:
    """Landmarks for :meth:`MCDMPipeline.predict_motion` out of a driver's frames.

    Args:
        frames: pictures ``[3, h, w]`` in [0, 1] at the rate of the video to make (``VideoReader.at_rate``), read one at
            a time and no further than needed. Squares of the model's size are taken for face crops.
        count: frames of the video to make; a driver that ends before is played back and forth.

    Returns:
        ``[count, 68, 2]`` in the crop of ``reference``. Before the driver's first face the head rests.

    Raises:
        FaceNotFoundError: if the driver shows no face; MediaError: if it has no frame.
    """
    crops = (crop for crop, _ in zip(_fixed_crops(pipe, frames), range(count), strict=False))
    landmarks = read_landmarks(pipe.model.face_network, crops)
    return onto_reference(there_and_back(landmarks, count), reference.landmarks.cpu())


@torch.no_grad()
def read_landmarks(network: FaceNetwork, crops: Iterable[Tensor]) -> Tensor:
    """Landmarks ``[n, 68, 2]`` of crops ``[3, s, s]`` in [0, 1].

    Raises:
        MediaError: if there are none.
    """
    device = next(network.parameters()).device
    parts: list[Tensor] = []
    waiting: list[Tensor] = []

    def read() -> None:
        if waiting:
            parts.append(network((torch.stack(waiting) * 2 - 1).to(device)).landmarks.cpu())
            waiting.clear()

    for crop in crops:
        waiting.append(crop)
        if len(waiting) == _READ_AT_A_TIME:
            read()
    read()
    if not parts:
        raise MediaError("The driver has no frames; give a video that shows a face.")
    return torch.cat(parts)


def there_and_back(landmarks: Tensor, count: int) -> Tensor:
    """Landmarks ``[n, 68, 2]`` as ``[count, 68, 2]``: cut, or played forwards and backwards in turn, without a jump.

    >>> there_and_back(torch.arange(3.0).view(3, 1, 1), 6).flatten()
    tensor([0., 1., 2., 1., 0., 1.])
    """
    have = len(landmarks)
    place = torch.arange(count) % max(1, 2 * have - 2)
    return landmarks[torch.where(place < have, place, 2 * have - 2 - place)]


def onto_reference(driver: Tensor, reference: Tensor) -> Tensor:
    """The driver's movement from its first frame on the reference's own face.

    Args:
        driver: ``[n, 68, 2]``; reference: ``[68, 2]``; each in its own crop.

    Returns:
        ``[n, 68, 2]`` in the reference's crop, the movement scaled to its size of face.
    """
    width = (reference[:, 0].amax() - reference[:, 0].amin()) / (driver[0, :, 0].amax() - driver[0, :, 0].amin())
    return reference[None] + (driver - driver[:1]) * width


def _fixed_crops(pipe: MCDMPipeline, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Crops around the largest face of the first frame with one: fixed, so that the head's movement is not taken away.

    Frames before it are given that frame's crop.
    """
    box, waiting, seen, size = None, 0, "", pipe.model.face_network.crop_size
    for frame in frames:
        if box is None and tuple(frame.shape[-2:]) == (pipe.config.image_size,) * 2:
            yield at_size(frame[None], size)[0]
            continue
        if box is None:
            found = pipe.detect_faces(frame) if waiting % _LOOK_EVERY == 0 else []
            if not found:
                waiting, seen = waiting + 1, f"{frame.shape[-1]}x{frame.shape[-2]}"
                if waiting > _LONGEST_WAIT:
                    break
                continue
            box = found[0]
            yield from [crop_face(frame, box, size)[0]] * waiting
        yield crop_face(frame, box, size)[0]
    if box is None and waiting:
        raise FaceNotFoundError(
            f"No face was found in the driver's first {waiting} frames ({seen} pixels). "
            "Use a driver that shows one face, upright and large."
        )
