"""Where a video begins: at the reference, or after frames that are already there (paper sections 3.2 and 5)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import MCDMError
from ..face.crops import resample_crop
from ..face.landmarks import lip_opening
from ..model import MCDMModel
from .canvas.canvas import build_canvas
from .memory import MotionMemory
from .reference import Reference, at_size, framed_face

if TYPE_CHECKING:
    from ..face.reading.face_track import FaceTrack
    from .pipeline import MCDMPipeline


_SEEN_OF = 1500
"""Frames at a video's beginning that may show the person, a minute at 25 frames a second."""


def seen_in_video(pipe: MCDMPipeline, track: FaceTrack, frames: Iterable[Tensor]) -> list[Reference]:
    """Frames of a video's beginning for :meth:`MemoryBuilder.start`, from lips that are shut to the widest.

    Args:
        track: of the face; frames: ``[3, h, w]`` in [0, 1] from the first on.
    """
    found = track.found[:_SEEN_OF].nonzero()[:, 0]
    if not len(found):
        return []
    order = found[lip_opening(track.landmarks[found]).argsort()]
    places = torch.linspace(0, len(order) - 1, pipe.config.archive_frames).round().long()
    chosen = set(order[places].tolist())
    shown = ((index, frame) for index, frame in enumerate(frames) if index in chosen)
    portraits = (framed_face(pipe, track, index, frame) for index, frame in itertools.islice(shown, len(chosen)))
    return [portrait for portrait in portraits if portrait is not None]


class MemoryBuilder:
    """Makes the memories that videos begin with.

    Args:
        model: all networks.
        fingerprint: the model's, written into every memory.
    """

    def __init__(self, model: MCDMModel, fingerprint: str) -> None:
        self.model, self.config, self.fingerprint = model, model.config, fingerprint
        self.canvas = build_canvas(model)

    @torch.no_grad()
    def start(self, reference: Reference, seed: int = 0, seen: Sequence[Reference] = ()) -> MotionMemory:
        """The memory before the first frame: the archive is the reference, repeated (section 3.2).

        Args:
            seen: further pictures of the person, which fill the archive in its place. They show what teeth, tongue and
                shut lids look like. Of more than the archive holds some are taken, spread over all.
        """
        prior, count = self.model.archived_clip_prior, self.config.archive_frames
        attention = prior.reference_attention(reference.latents)
        latents, gallery = reference.latents[:, None], None
        if seen:
            crops = torch.stack([picture.crop for picture in seen])
            landmarks = torch.stack([picture.landmarks for picture in seen])
            latents = self.canvas.latents_of(reference, (crops * 2 - 1).to(self.model.device), landmarks)
            gallery = self.canvas.gallery_of(reference, self.canvas.seen_in(reference, crops, landmarks))
        every = torch.arange(count, device=latents.device) * len(latents[0]) // count
        return MotionMemory(
            reference_map=attention,
            archive_latents=latents[:, every],
            archive_rows=prior(attention, latents)[:, every],
            gallery=gallery,
            seed=seed,
            fingerprint=self.fingerprint,
        )

    @torch.no_grad()
    def after_frames(self, reference: Reference, frames: Tensor, seed: int = 0) -> MotionMemory:
        """The memory after given frames, to continue a video whose memory was not kept.

        Args:
            reference: of the person.
            frames: the video's last frames [f, 3, h, w] in [0, 1]. They are face crops (square, of the model's size),
                or whole pictures of the portrait's size, cropped where the portrait was.
        """
        if frames.ndim != 4 or frames.shape[0] == 0:
            raise MCDMError(f"The frames have shape {list(frames.shape)}; expected [f, 3, h, w] with f of at least 1.")
        crops = frames[-self.config.archive_frames :].float()
        size = self.config.image_size
        if tuple(crops.shape[-2:]) != (size, size):
            if tuple(crops.shape[-2:]) != tuple(reference.image.shape[-2:]):
                raise MCDMError(
                    f"The frames are {crops.shape[-1]}x{crops.shape[-2]} pixels; expected face crops of {size}x{size} "
                    f"or whole pictures of the portrait's {reference.image.shape[-1]}x{reference.image.shape[-2]}."
                )
            crops = torch.stack([resample_crop(frame, reference.transform, size) for frame in crops])
        signed = (crops * 2 - 1).to(self.model.device)
        memory = self.start(reference, seed)
        landmarks = self.model.face_network(signed).landmarks
        latents = self.canvas.latents_of(reference, signed, landmarks)
        context = self.model.motion_codec.encode(at_size(signed, 128)[None], landmarks[None])
        keep = self.config.present_clip_prior.context_frames
        after = memory.advanced(
            latents,
            self.model.archived_clip_prior(memory.reference_map, latents),
            {},
            context.map(lambda stream: stream[0, -keep:]),
            None,
        )
        gallery = self.canvas.gallery_of(reference, self.canvas.seen_in(reference, crops, landmarks))
        return dataclasses.replace(after, frame_index=frames.shape[0], gallery=gallery)
