"""Head movement taken over from a driver video (the landmark condition of paper section 3.3).

The driver's landmarks, read by the face network in a crop that stays fixed, are laid onto the portrait's own face as
movement from the driver's first frame: absolute ones would give the portrait the driver's shape and place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import FaceNotFoundError, FrameRateError, MediaError
from ..face.crops import crop_face
from ..face.face_network import FaceNetwork

if TYPE_CHECKING:
    from .pipeline import MCDMPipeline, Reference

_READ_AT_A_TIME = 32


def driver_landmarks(
    pipe: MCDMPipeline, reference: Reference, frames: Iterable[Tensor], count: int, driver_fps: float, fps: float
) -> Tensor:
    """Landmarks for :meth:`MCDMPipeline.predict_motion` out of a driver's frames.

    Args:
        frames: whole pictures ``[3, h, w]`` in [0, 1], read one at a time and no further than needed.
        count: frames of the video to make; a driver that ends before is played back and forth.
        driver_fps, fps: frame rates of the driver and of the video to make.

    Returns:
        ``[count, 68, 2]`` in the crop of ``reference``.

    Raises:
        FaceNotFoundError: if the driver's first frame shows no face; MediaError: if it has no frame.
    """
    picked = at_rate(frames, driver_fps, fps)
    crops = (crop for crop, _ in zip(_fixed_crops(pipe, picked), range(count), strict=False))
    landmarks = read_landmarks(pipe.model.face_network, crops)
    return onto_reference(there_and_back(landmarks, count), reference.landmarks.cpu())


def at_rate(frames: Iterable[Tensor], have: float, want: float) -> Iterator[Tensor]:
    """The frame shown at each moment of another frame rate; none is skipped or repeated if the rates agree.

    Raises:
        FrameRateError: if a rate is not positive.
    """
    if not (have > 0 and want > 0):
        raise FrameRateError(f"frame rates must be positive, got {have} and {want}")
    made = 0
    for index, frame in enumerate(frames):
        while int(made * have / want + 1e-6) == index:
            yield frame
            made += 1


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
    """Landmarks ``[n, 68, 2]`` as ``[count, 68, 2]``: cut, or played forwards and backwards in turn, without a jump."""
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
    """Crops around the largest face of the first frame: fixed, so that the head's movement is not taken away."""
    box = None
    for frame in frames:
        if box is None:
            boxes = pipe.detect_faces(frame)
            if not boxes:
                raise FaceNotFoundError(
                    f"No face was found in the driver's first frame ({frame.shape[-1]}x{frame.shape[-2]} pixels). Use "
                    "a driver that shows its face from the beginning, or cut it so."
                )
            box = boxes[0]
        yield crop_face(frame, box, pipe.model.face_network.crop_size)[0]
