"""What of the face crop the denoiser paints: all of it (the paper), or mouth and eyes in parts of their own (C).

Either canvas gives the denoiser its latents, guide and motion tokens, and makes face crops and finished pictures of
what it painted. The batch axis of latents, archive and memory counts the canvas' videos: one, or one a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from ...face.part_places import PartPlaces
from ...model import MCDMModel
from ...models.inputs.gallery import Gallery
from ..memory import MotionMemory
from ..reference import Reference
from .face_parts import FaceParts
from .painting import Painting
from .whole_crop import WholeCrop


class Canvas(Protocol):
    """What :func:`build_canvas` gives; v videos of latents."""

    def still_latents(self, crop: Tensor, landmarks: Tensor) -> Tensor:
        """Latents ``[v, c, h, w]`` of a portrait's crop ``[1, 3, s, s]`` in [-1, 1] with landmarks ``[1, 68, 2]``."""
        ...

    def latents_of(self, reference: Reference, crops: Tensor, landmarks: Tensor) -> Tensor:
        """Latents ``[v, f, c, h, w]`` of given frames ``[f, 3, s, s]`` in [-1, 1] with landmarks ``[f, 68, 2]``."""
        ...

    def places(self, reference: Reference, landmarks: Tensor | None) -> PartPlaces | None:
        """Where in frames with landmarks ``[f, 68, 2]`` the painted parts lie; None where the whole crop is painted."""
        ...

    def conditions(
        self, reference: Reference, tokens: Tensor, landmarks: Tensor | None, places: PartPlaces | None
    ) -> tuple[Tensor | None, Tensor]:
        """The UNet's guide ``[v, f, g, h, w]``, where the model has one, and what layer 3 reads ``[v, f, m, d]``.

        Args:
            tokens: motion tokens ``[1, f, m, dm]``; landmarks: of the same frames ``[f, 68, 2]``, with their
                places.
        """
        ...

    def paint(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Painting:
        """Pictures of denoised latents ``[v, f, c, h, w]`` of frames with these places.

        Args:
            memory: that they were denoised with: its archive and gallery are looked at.
        """
        ...

    def gallery_of(self, reference: Reference, painting: Painting) -> Gallery | None:
        """The gallery of what was seen of a person, on the CPU; None where nothing looks at one."""
        ...

    def decode(self, reference: Reference, latents: Tensor, places: PartPlaces | None, memory: MotionMemory) -> Tensor:
        """The same as the decoder gives them, ``[v, f, 3, k, k]``, about in [-1, 1], with nothing around them."""
        ...

    def seen_in(self, reference: Reference, frames: Tensor, landmarks: Tensor) -> Painting:
        """The painting that finished crops ``[f, 3, s, s]`` in [0, 1] show, with landmarks ``[f, 68, 2]``."""
        ...

    def finish(
        self, reference: Reference, painting: Painting, landmarks: Tensor, *, paste: bool, in_bytes: bool
    ) -> Iterator[Tensor]:
        """Frames at the portrait's resolution, one by one ``[1, 3, h, w]``: in [0, 1], or ``in_bytes`` as uint8."""
        ...


def build_canvas(model: MCDMModel) -> Canvas:
    """The canvas a model's configuration asks for."""
    return FaceParts(model) if model.config.parts.size else WholeCrop(model)
