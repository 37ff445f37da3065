"""What the pipeline's steps hand to one another: a prepared portrait, prepared sound, a finished clip."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..face.crops import CropTransform
from ..models.motion_codec import MotionTokens
from ..motion.motion import Motion
from .memory import MotionMemory


@dataclass(frozen=True)
class Reference:
    """A prepared portrait.

    Attributes:
        image: the portrait [3, h, w] in [0, 1]; crop: the face crop [3, s, s] in [0, 1]; transform: where it lies.
        latents: of the crop [1, c, h, w].
        landmarks: [68, 2] in [0, 1] of the crop; pose [6]; values [16].
        image_tokens: [1, k, d]; motion_tokens: of the crop, streams [1, n, dm].
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


@dataclass(frozen=True)
class AudioEmbedding:
    """Sound prepared for the motion prior: tokens [N, k, d], one group a video frame; mono waveform [t] at 16 kHz."""

    tokens: Tensor
    num_frames: int
    fps: float
    waveform: Tensor
    sample_rate: int


@dataclass(frozen=True)
class Clip:
    """A finished clip: frames [f, 3, s, s] in [0, 1] on the CPU (face crops), latents [f, c, h, w], and what follows.

    ``index`` counts clips and ``start`` frames from the video's beginning; ``memory`` continues after this clip.
    """

    index: int
    start: int
    frames: Tensor
    latents: Tensor
    motion: Motion
    memory: MotionMemory
