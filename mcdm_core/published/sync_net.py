"""Sync-D and Sync-C by SyncNet's two networks (Chung and Zisserman 2016), which the user has exported.

One network sees five frames of a face, the other a fifth of a second of sound. How far apart their features lie, by the
offset of one against the other, says whether lips and voice belong together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MediaError, PackageError, WeightsError
from ..face.crops import FACE_FRACTION, CropTransform, resample_crop
from ..media.audio import MODEL_SAMPLE_RATE
from .network import Features, OnnxNetwork

FRAMES = 5
"""Frames that the network of lips sees at a time."""
FPS = 25
"""The networks know this frame rate alone."""
LARGEST_OFFSET = 15
"""Frames that the sound is moved by, either way."""
COEFFICIENTS, STEPS = 13, 20
"""Of the sound's cepstrum, and its steps of 10 ms that the network of voices hears at a time."""
_STEPS_A_FRAME = 4
_FACE_SIZE = 224
_BATCH = 32


@dataclass(frozen=True)
class SyncScores:
    """``distance`` (Sync-D, the less the better), ``confidence`` (Sync-C, the more the better), and ``offset`` of the
    sound in frames at which the distance is least."""

    distance: float
    confidence: float
    offset: int


def offset_curve(lips: Features, voice: Features) -> Features:
    """Mean distance of features ``[n, d]`` by the offset, from ``-LARGEST_OFFSET`` to ``LARGEST_OFFSET``.

    Beyond its ends the sound's features are zero, as in the published measurement.
    """
    padded = np.pad(voice, ((LARGEST_OFFSET, LARGEST_OFFSET), (0, 0)))
    # The distance of the published code adds this much to each difference.
    return np.array(
        [
            np.linalg.norm(lips - padded[offset : offset + len(lips)] + 1e-6, axis=1).mean()
            for offset in range(2 * LARGEST_OFFSET + 1)
        ]
    )


def scores_of(curve: Features) -> SyncScores:
    """Sync-D, Sync-C and the offset that a curve tells."""
    least = int(curve.argmin())
    return SyncScores(float(curve[least]), float(np.median(curve) - curve[least]), LARGEST_OFFSET - least)


def face_square(face: CropTransform) -> CropTransform:
    """The square that SyncNet was shown, around the face of a crop: 1.4 times the face, and lower by a fifth of it."""
    half = face.side * FACE_FRACTION / 2
    side = 2.8 * half
    left, top = face.left + (face.side - side) / 2, face.top + face.side / 2 - half
    return CropTransform(left, top, side, face.image_width, face.image_height)


@torch.no_grad()
def lip_features(network: OnnxNetwork, frames: Iterable[Tensor], face: CropTransform) -> Features:
    """Features ``[n, d]``, one for every five frames that follow one another.

    Args:
        frames: ``[3, h, w]`` in [0, 1], 25 a second; face: the crop that the face lies in.

    Raises:
        MediaError: if there are fewer than five frames.
        WeightsError: if the network takes something else than ``[n, 3, 5, h, w]``.
    """
    if network.rank != 5 or network.shape[:2] != (3, FRAMES):
        raise WeightsError(
            f"{network.name} takes inputs of the sizes {network.shape}; expected (3, {FRAMES}, height, width): "
            "SyncNet's network of lips."
        )
    square, size = face_square(face), network.shape[-1] or _FACE_SIZE
    window: list[Tensor] = []
    clips: list[Tensor] = []
    made: list[Features] = []
    for frame in frames:
        # The published networks learnt from pictures whose colours run from blue to red.
        window.append(resample_crop(frame, square, size).flip(0) * 255)
        if len(window) == FRAMES:
            clips.append(torch.stack(window, 1))
            window.pop(0)
        if len(clips) == _BATCH:
            made.append(network(torch.stack(clips)))
            clips.clear()
    if clips:
        made.append(network(torch.stack(clips)))
    if not made:
        raise MediaError(f"SyncNet needs a video of at least {FRAMES} frames.")
    return np.concatenate(made)


def voice_windows(mono: Tensor, count: int) -> Tensor:
    """What the network of voices hears with each of ``count`` runs of frames, ``[count, 1, 13, 20]``.

    Args:
        mono: ``[s]`` in [-1, 1] at 16 kHz; silence follows its end.

    Raises:
        PackageError: if python_speech_features is missing, whose cepstrum the networks learnt from.
    """
    try:
        from python_speech_features import mfcc
    except ImportError as error:
        raise PackageError("SyncNet needs python_speech_features: pip install 'mcdm-talking-face[metrics]'.") from error
    needed = (count * _STEPS_A_FRAME + STEPS) * MODEL_SAMPLE_RATE // 100 + 400
    sound = F.pad(mono, (0, max(0, needed - len(mono))))
    cepstrum = mfcc((sound * 32767).round().numpy().astype(np.int16), MODEL_SAMPLE_RATE)
    steps = torch.from_numpy(np.asarray(cepstrum, np.float32)).T
    return torch.stack([steps[:, k * _STEPS_A_FRAME :][:, :STEPS] for k in range(count)])[:, None]
