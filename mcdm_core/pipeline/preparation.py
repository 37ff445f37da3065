"""Preparing a portrait and a voice for the models: face search, crop, tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MCDMConfig
from ..errors import FaceNotFoundError, FaceTooSmallError, MCDMError
from ..face.crops import FACE_FRACTION, MIN_FACE_PIXELS, CropTransform, check_box, crop_face, resample_crop
from ..face.face_network import FaceReading
from ..face.part_reader import DETAIL_SIZE
from ..face.portrait_check import Finding, check_face
from ..media.audio import frame_count, to_mono_16k
from ..model import MCDMModel
from ..models.audio_encoder import ContextAudioEncoder, frame_centres, gather_windows
from .records import AudioEmbedding, Reference

logger = logging.getLogger(__name__)

AUDIO_CHUNK = 1024
"""Video frames whose sound is encoded at a time."""


class Preparation:
    """The pipeline's part that reads its inputs; see :class:`~mcdm_core.pipeline.MCDMPipeline`."""

    model: MCDMModel
    config: MCDMConfig

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def detect_faces(self, image: Tensor) -> list[tuple[float, float, float, float]]:
        """Boxes (left, top, right, bottom) in pixels of the faces in a portrait [3, h, w] in [0, 1], largest first."""
        found = self.model.face_network.detect((image * 2 - 1).to(self.device))
        boxes = [(float(face[0]), float(face[1]), float(face[2]), float(face[3])) for face in found]
        return sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))

    @torch.no_grad()
    def encode_reference(self, image: Tensor, box: Sequence[float] | None = None) -> Reference:
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
        if box is None:
            box = self._find_face(image)
        else:
            box = self._settle(image, check_box(box, width, height))
        crop, transform = crop_face(image, box, self.config.image_size)
        return self._encode_crop(image, crop, transform)

    @torch.no_grad()
    def check_portrait(self, image: Tensor, box: Sequence[float] | None = None) -> list[Finding]:
        """What is wrong with a portrait [3, h, w] in [0, 1] before it speaks; ``box`` as in :meth:`encode_reference`.

        Raises:
            FaceNotFoundError, MediaError: see the messages.
        """
        faces = self.detect_faces(image)
        if box is None and not faces:
            raise FaceNotFoundError("No face was found in the portrait; give its box yourself.")
        height, width = image.shape[-2:]
        chosen = faces[0] if box is None else self._settle(image, check_box(box, width, height))
        network = self.model.face_network
        detail, transform = crop_face(image, chosen, DETAIL_SIZE)
        reading = network((detail * 2 - 1)[None].to(self.device))
        others = [face[2] - face[0] for face in faces[1:]] if box is None else []
        return check_face(detail, reading, transform.side * FACE_FRACTION, others, self.config.image_size)

    def _find_face(self, image: Tensor) -> tuple[float, float, float, float]:
        height, width = image.shape[-2:]
        boxes = self.detect_faces(image)
        if not boxes:
            raise FaceNotFoundError(
                f"No face was found in the portrait of {width}x{height} pixels. Use a picture with one face seen "
                "from the front, or give the face's box (left, top, right, bottom, in pixels) yourself."
            )
        if len(boxes) > 1:
            places = [" ".join(f"{side:.0f}" for side in box) for box in boxes]
            logger.warning(
                "%d faces were found; the largest is used (left, top, right, bottom: %s). To choose another, give its "
                "box: %s.", len(boxes), places[0], ", ".join(places[1:]),
            )  # fmt: skip
        left, top, right, bottom = boxes[0]
        if right - left < MIN_FACE_PIXELS:
            raise FaceTooSmallError(
                f"The largest face is {right - left:.0f} pixels wide; at least {MIN_FACE_PIXELS} are needed. "
                "Use a larger or closer picture."
            )
        return boxes[0]

    def _settle(self, image: Tensor, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Move a hand-drawn box to the framing the models know, if the face network is sure of a face in it.

        Boxes drawn by hand include or leave out foreheads and chins as they please; a crop framed as in training
        makes better pictures. An unsure reading, or one that leads elsewhere, leaves the box as it was drawn.
        """
        size = max(box[2] - box[0], box[3] - box[1])
        start = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, size / FACE_FRACTION)
        square, _, confidence = self.model.face_network.refine((image * 2 - 1).to(self.device), start, steps=2)
        shift = max(abs(square[0] - start[0]), abs(square[1] - start[1])) / start[2]
        if confidence < 0.6 or shift > 0.3 or not 0.6 < square[2] / start[2] < 1.6:
            return box
        half = square[2] * FACE_FRACTION / 2
        return square[0] - half, square[1] - half, square[0] + half, square[1] + half

    def _encode_crop(self, image: Tensor, crop: Tensor, transform: CropTransform) -> Reference:
        signed = (crop * 2 - 1)[None].to(self.device)
        reading = self.read_face(image, transform, signed)
        motion = self.model.motion_codec.encode(at_size(signed, 128)[:, None], reading.landmarks[:, None])
        return Reference(
            image=image,
            crop=crop,
            transform=transform,
            latents=self.model.vae.encode(signed),
            landmarks=reading.landmarks[0],
            pose=reading.pose[0],
            values=reading.values[0],
            image_tokens=self.model.image_encoder(signed),
            motion_tokens=motion.map(lambda stream: stream[:, 0]),
        )

    @torch.no_grad()
    def read_face(self, image: Tensor, transform: CropTransform, crop: Tensor) -> FaceReading:
        """Read the face of a portrait [3, h, w] in [0, 1]: its crop [1, 3, s, s] in [-1, 1], and what the portrait's
        own pixels add to it."""
        network = self.model.face_network
        if network.parts is None:
            return network(crop)
        detail = resample_crop(image, transform, network.crop_size)[None] * 2 - 1
        return network(crop, detail.to(self.device))

    @torch.no_grad()
    def embed_audio(
        self, waveform: Tensor, sample_rate: int, fps: float | None = None, *, allow_silent: bool = False
    ) -> AudioEmbedding:
        """Encode sound: one group of tokens for each of max(1, round(T fps)) video frames.

        Args:
            waveform: [t] or [c, t] at any rate.
            fps: frames a second, the model's by default.
            allow_silent: accept sound that is silent throughout.

        Raises:
            AudioError, FrameRateError: for unusable sound or rates.
        """
        fps = float(fps or self.config.fps)
        rate = self.config.audio_encoder.sample_rate
        mono = to_mono_16k(waveform, sample_rate, allow_silent=allow_silent, target_rate=rate)
        count = frame_count(mono.numel(), rate, fps)
        encoder = self.model.audio_encoder
        if isinstance(encoder, ContextAudioEncoder):
            # Windows overlap tenfold: cutting them chunk by chunk keeps an hour of speech small.
            settings = self.config.audio_encoder
            mels = encoder.spectrum(mono)
            centres = frame_centres(count, fps, rate, settings.hop_length)
            chunks: Iterator[Tensor] = (
                gather_windows(mels, part, settings.window_frames) for part in centres.split(AUDIO_CHUNK)
            )
        else:
            chunks = iter(encoder.frame_windows(mono.to(self.device), rate, fps, count).split(AUDIO_CHUNK))
        tokens = torch.cat([encoder(chunk.to(self.device)) for chunk in chunks])
        return AudioEmbedding(tokens, count, fps, mono, rate)


def at_size(images: Tensor, size: int) -> Tensor:
    """Images [b, 3, h, w] at size x size."""
    if images.shape[-1] == size and images.shape[-2] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
