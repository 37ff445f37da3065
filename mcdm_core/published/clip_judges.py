"""Published networks that judge clips, where the user has them: one of picture quality, and SyncNet's two."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import WeightsError
from ..face.crops import CropTransform
from ..media.video_reader import VideoReader
from .network import OnnxNetwork, network_inputs
from .sync_net import SyncScores, lip_features, offset_curve, scores_of, voice_windows

_QUALITY_EVERY = 25
"""Of so many frames one is judged."""


@dataclass(frozen=True)
class JudgeFiles:
    """ONNX files: ``quality`` gives one number a picture, the more the better; ``syncnet``: of lips and of voices."""

    quality: Path | None = None
    syncnet: tuple[Path, Path] | None = None

    def digests(self) -> list[str]:
        """Name the files' contents, so that what others have judged is not mixed with it."""
        files = zip(("quality", "lips", "voice"), (self.quality, *(self.syncnet or ())), strict=False)
        return [f"{role} {hashlib.sha256(file.read_bytes()).hexdigest()}" for role, file in files if file is not None]


@dataclass(frozen=True)
class Judges:
    """The networks of :class:`JudgeFiles`."""

    quality: OnnxNetwork | None = None
    syncnet: tuple[OnnxNetwork, OnnxNetwork] | None = None

    def picture_quality(self, clip: Path) -> float | None:
        """Mean of the network's numbers over the clip's frames, one a second; None without a network.

        Raises:
            WeightsError: if the network gives more than one number.
        """
        if self.quality is None:
            return None
        frames = islice(VideoReader(clip), 0, None, _QUALITY_EVERY)
        numbers = [self.quality(given) for given in network_inputs(self.quality, frames)]
        if any(given.shape[1] != 1 for given in numbers):
            raise WeightsError(f"{self.quality.name} gives {numbers[0].shape[1]} numbers a picture; expected one.")
        return float(np.mean(numbers))

    def sync(self, clip: Path, speech: Tensor) -> SyncScores | None:
        """What SyncNet says of a written clip, a square around the face, and its sound ``[s]``; None without it."""
        if self.syncnet is None:
            return None
        lips, voice = self.syncnet
        video = VideoReader(clip)
        seen = lip_features(lips, video, CropTransform(0, 0, video.width, video.width, video.height))
        return scores_of(offset_curve(seen, voice(voice_windows(speech, len(seen)))))


def load_judges(files: JudgeFiles) -> Judges:
    """The networks of some files."""
    quality = None if files.quality is None else OnnxNetwork(files.quality)
    if files.syncnet is None:
        return Judges(quality)
    lips, voice = files.syncnet
    return Judges(quality, (OnnxNetwork(lips), OnnxNetwork(voice)))
