"""The mouth of one filmed speaker: the lip values a real face showed with what it said, by ridge regression.

What is said when (``phone_alignment.py``) and how loud, a third of a second to each side, tells the four lip values
of a frame. A map fitted to one person says any other recording with that person's mouth.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...correlation import correlation
from ...errors import MediaError
from ...face.landmarks import LIP_VALUES, VALUE_NAMES
from ..shards import ClipDataset
from ..synthetic.motion import loudness, viseme_spans
from ..synthetic.people.visemes import VISEMES
from ..synthetic.speech.speech import Phoneme
from .phone_alignment import PhoneAligner
from .video import FPS

logger = logging.getLogger(__name__)

_RATE = 100
"""Steps a second at which phones and loudness are known."""
_CONTEXT = np.arange(-32, 33, 2)
"""Steps around the middle of a frame that tell about it."""
_PENALTY = 100.0
_FEWEST = 20
_HELD_OUT = 10
"""One of so many clips is held out to measure the fit."""


@dataclasses.dataclass(frozen=True)
class FilmedSpeech:
    """A clip of a filmed speaker: phonemes with times from its start, sound ``[s]`` int16 at 16 kHz, and lip values.
    These are ``[t, 4]`` (``LIP_VALUES`` of face/landmarks.py) at the middle of each frame, 25 a second."""

    phonemes: list[Phoneme]
    sound: np.ndarray
    lips: np.ndarray


class FittedMouth:
    """A linear map from what is said to the lips; :meth:`fit` makes one.

    Args:
        weights: ``[n, 4]``, of the ``n`` numbers of :meth:`features`; mean: ``[4]``, what is added.
    """

    def __init__(self, weights: np.ndarray, mean: np.ndarray) -> None:
        self.weights, self.mean = weights, mean

    @classmethod
    def fit(cls, clips: Sequence[FilmedSpeech], penalty: float = _PENALTY) -> FittedMouth:
        """The map with the least squared error on ``clips`` plus ``penalty`` times its squared weights."""
        mean = np.concatenate([clip.lips for clip in clips]).mean(axis=0, dtype=np.float64)
        inputs = [cls.features(clip.phonemes, clip.sound, len(clip.lips)).astype(np.float64) for clip in clips]
        products = np.sum([x.T @ x for x in inputs], axis=0)
        covered = np.sum([x.T @ (clip.lips - mean) for x, clip in zip(inputs, clips, strict=True)], axis=0)
        return cls(np.linalg.solve(products + penalty * np.eye(len(products)), covered), mean)

    @staticmethod
    def features(phonemes: Sequence[Phoneme], sound: np.ndarray, frames: int) -> np.ndarray:
        """What is said around each frame, ``[t, n]`` float32.

        For 33 moments from 0.32 s before to 0.32 s after the middle of the frame: viseme, loudness and their product.
        The viseme is a one-hot of 14, "sil" where nothing is said. The loudness is about 1 in loud vowels, 1.3 at most.
        Beyond the ends the ends are repeated.

        Args:
            phonemes: with times in seconds from the sound's start; sound: ``[s]`` int16 at 16 kHz; frames: ``t``, at
                25 frames a second.
        """
        each = _RATE // FPS
        steps = frames * each + 1
        said = np.zeros(steps, int)
        for name, start, end in viseme_spans(phonemes):
            first, last = (max(0, int(np.floor(t * _RATE + 1e-6))) for t in (start, end))
            said[first:last] = VISEMES.index(name)  # the step it begins in is its own
        viseme = np.eye(len(VISEMES))[said]
        level = loudness(sound.astype(np.float32) / 32768, steps, _RATE)[:, None]
        known = np.concatenate([viseme, level, viseme * level], axis=1)
        moments = np.arange(frames)[:, None] * each + each // 2 + _CONTEXT
        return known[moments.clip(0, steps - 1)].reshape(frames, -1).astype(np.float32)

    def values(self, phonemes: Sequence[Phoneme], sound: np.ndarray, frames: int) -> np.ndarray:
        """The lip values ``[t, 4]`` float32 this mouth says it with; arguments as for :meth:`features`.

        The opening (the first of them) is 0 or more, the others are as far from 0 as the speaker's own.
        """
        lips = self.features(phonemes, sound, frames) @ self.weights + self.mean
        lips[:, 0] = lips[:, 0].clip(0)
        return lips.astype(np.float32)

    def agreement(self, clips: Sequence[FilmedSpeech]) -> np.ndarray:
        """Correlation ``[4]`` of this mouth with the filmed one, each lip value's mean over the clips."""
        said = [self.values(clip.phonemes, clip.sound, len(clip.lips)) for clip in clips]
        pairs = list(zip(said, clips, strict=True))
        scores = [[correlation(a[:, k], c.lips[:, k]) for a, c in pairs] for k in range(len(LIP_VALUES))]
        return np.array(scores).mean(1)


def read_filmed_speech(folder: Path, transcripts: Path, aligner: PhoneAligner) -> list[FilmedSpeech]:
    """The clips of shards that have a transcript, aligned.

    Args:
        folder: shards as ``label-data --videos`` writes them; transcripts: a folder of ``NAME.txt`` with what is said
            in the clip made of the video NAME. A clip whose sound does not fit is left out with a warning.

    Raises:
        MediaError: if there are no shards, no transcripts of their clips, or fewer than 20 clips can be used.
    """
    for given in (folder, transcripts):
        if not Path(given).is_dir():
            raise MediaError(f"{given} is no folder; give shards of label-data --videos, and their transcripts.")
    data = ClipDataset(folder)
    texts = {path.stem: path for path in Path(transcripts).glob("*.txt")}
    names = [str(data.info(index)["sentence"]) for index in range(len(data))]
    matched = [index for index, name in enumerate(names) if name in texts]
    if not matched:
        raise MediaError(
            f"{transcripts} holds no transcript of the {len(data)} clips in {folder}; write what is said in each to a "
            f"file of its name, {next(iter(names), 'NAME')}.txt for one."
        )
    logger.info("finding the phones of %d clips of %s", len(matched), folder)
    found = []
    for index in matched:
        sound, lips = data.read(index, "audio").numpy(), data.read(index, "values").numpy()[:, list(LIP_VALUES)]
        try:
            phonemes = aligner.align(sound, texts[names[index]].read_text(encoding="utf-8", errors="replace"))
        except MediaError as error:
            logger.warning("%s left out: %s", names[index], error)
            continue
        found.append(FilmedSpeech(phonemes, sound, lips))
    if len(found) < _FEWEST:
        raise MediaError(
            f"A mouth is fitted on {_FEWEST} clips or more, better 200, and {len(found)} of {len(data)} in {folder} "
            f"can be used ({len(matched)} have a transcript); label more clips of this speaker, or write what is said."
        )
    return found


def fit_mouth(clips: Sequence[FilmedSpeech]) -> FittedMouth:
    """A mouth fitted on all clips; how well one fitted on nine of ten follows the others is logged."""
    held = clips[_HELD_OUT - 1 :: _HELD_OUT]
    rest = [clip for index, clip in enumerate(clips) if index % _HELD_OUT != _HELD_OUT - 1]
    measured = FittedMouth.fit(rest).agreement(held)
    told = ", ".join(f"{r:.2f} ({VALUE_NAMES[k]})" for k, r in zip(LIP_VALUES, measured, strict=True))
    logger.info("a mouth fitted on %d clips follows the lips of %d others with r = %s", len(rest), len(held), told)
    return FittedMouth.fit(clips)
