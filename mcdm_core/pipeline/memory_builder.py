"""Where a video begins: at the reference, or after frames that are already there (paper sections 3.2 and 5)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..errors import MCDMError
from ..face.crops import resample_crop
from ..model import MCDMModel
from .canvas.canvas import build_canvas
from .memory import MotionMemory
from .reference import Reference, at_size


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
    def start(self, reference: Reference, seed: int = 0) -> MotionMemory:
        """The memory before the first frame: the archive is the reference, repeated (section 3.2)."""
        prior, count = self.model.archived_clip_prior, self.config.archive_frames
        attention = prior.reference_attention(reference.latents)
        rows = prior(attention, reference.latents[:, None])
        return MotionMemory(
            reference_map=attention,
            archive_latents=reference.latents[:, None].repeat(1, count, 1, 1, 1),
            archive_rows=rows.repeat(1, count, 1, 1),
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
        gallery = self.canvas.gallery_after(reference, None, self.canvas.seen_in(reference, crops, landmarks))
        return dataclasses.replace(after, frame_index=frames.shape[0], gallery=gallery)
