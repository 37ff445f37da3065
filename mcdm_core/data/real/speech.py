"""Real voices for the audio encoder: transcribed recordings to spoken shards, with the mouth they would be said by.

A forced alignment tells when each phone is spoken (``phone_alignment.py``). From there on lips and face move as those
of the synthetic speakers do (``synthetic/motion.py``), or the lips as a filmed speaker's (``fitted_mouth.py``). The
sound is real, the mouth is the one of a model.
"""

from __future__ import annotations

import dataclasses
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import AudioError, MediaError
from ...face.landmarks import LIP_VALUES
from ...media.audio import load_audio, to_mono_16k
from ..shards import INFO_FIELDS, SAMPLE_RATE, write_spoken_shard
from ..synthetic.graphics.rig import Rig, RigParts
from ..synthetic.labels import values_of_actions
from ..synthetic.motion import random_motion
from ..synthetic.people.head_asset import HeadAsset
from ..synthetic.people.identity import random_identity
from ..synthetic.speech.speech import Phoneme
from .fitted_mouth import FittedMouth
from .labelling import write_parts
from .phone_alignment import PhoneAligner

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
SOURCE = "real speech"
FPS = 25
MAX_FRAMES = 75
"""Frames of a clip, at most."""
MIN_SECONDS, MAX_SECONDS = 1, 40
RECORDINGS_PER_SHARD = 60
_MARGIN = 0.5
_AMPLITUDE = (0.85, 1.3)
"""How widely a fitted mouth is moved, drawn for each segment: other people than its speaker speak."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """A sound file, what is said in it (English), and by whom."""

    path: Path
    transcript: str
    speaker: str


def list_recordings(folder: Path, keep_apart: int | None = None) -> tuple[list[Recording], list[Recording]]:
    """Recordings below a folder that have a transcript: ``a.wav`` and ``a.txt``.

    The speaker is the first folder below ``folder`` or, without one, the file's name up to the first "-" or "_".

    Args:
        keep_apart: how many speakers, the last ones by name, are the second list (validation): a tenth of them by
            default, a fifth at most.

    Raises:
        MediaError: if the folder is missing or holds no such recording.
    """
    if not Path(folder).is_dir():
        raise MediaError(f"{folder} is no folder; give one that holds recordings and their transcripts.")
    found: dict[str, list[Recording]] = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES):
        text = path.with_suffix(".txt")
        if not text.is_file():
            logger.warning("%s left out: there is no %s with what is said in it", path.name, text.name)
            continue
        inner = path.relative_to(folder).parts[:-1]
        speaker = inner[0] if inner else path.stem.replace("_", "-").split("-")[0]
        transcript = text.read_text(encoding="utf-8", errors="replace")
        found.setdefault(speaker, []).append(Recording(path, transcript, speaker))
    if not found:
        raise MediaError(
            f"{folder} holds no recordings ({', '.join(SUFFIXES)}) with a .txt of the same name that tells what is "
            "said in them; write these transcripts."
        )
    speakers = sorted(found)
    wanted = len(speakers) // 10 if keep_apart is None else keep_apart
    cut = len(speakers) - min(wanted, len(speakers) // 5)
    train, val = ([r for name in names for r in found[name]] for names in (speakers[:cut], speakers[cut:]))
    return train, val


class SpeechLabeller:
    """Turns recordings into clips of sound and facial values.

    Args:
        asset: the head model; seed: with a recording's name it decides the faces that speak it.
        mouth: what the lips are moved by, by default the synthetic mouth.
    """

    def __init__(self, asset: HeadAsset, seed: int = 0, mouth: FittedMouth | None = None) -> None:
        self.asset, self.seed, self.mouth = asset, seed, mouth
        self._aligner = PhoneAligner()
        self._parts = RigParts(asset)

    def clips(self, recording: Recording) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Segments of up to 3 s, each spoken by another face: sound ``[s]`` int16 at 16 kHz and values ``[t, 16]``.

        They lie evenly over what is said (silence around it is cut to half a second), so that neighbours may overlap.

        Raises:
            AudioError, MediaError: if the recording cannot be used.
        """
        audio = _read(recording.path)
        phonemes = self._aligner.align(audio, recording.transcript)
        spoken = [p for p in phonemes if p.symbol]
        begin = max(0, int((spoken[0].start - _MARGIN) * FPS))
        end = min(len(audio) * FPS // SAMPLE_RATE, int((spoken[-1].end + _MARGIN) * FPS))
        length = min(end - begin, MAX_FRAMES)
        lips = None if self.mouth is None else self.mouth.values(phonemes, audio, len(audio) * FPS // SAMPLE_RATE)
        starts = np.linspace(begin, end - length, -(-(end - begin) // MAX_FRAMES)).round().astype(int)
        for number, start in enumerate(starts):
            first = start * SAMPLE_RATE // FPS
            sound = audio[first : first + length * SAMPLE_RATE // FPS]
            rng = np.random.default_rng([self.seed, zlib.crc32(recording.path.name.encode()), number])
            values = self._values(sound, _between(phonemes, start / FPS, length / FPS), length, rng)
            if lips is not None:
                values[:, list(LIP_VALUES)] = lips[start : start + length] * rng.uniform(*_AMPLITUDE)
            yield sound, values

    def _values(self, sound: np.ndarray, phonemes: list[Phoneme], frames: int, rng: np.random.Generator) -> np.ndarray:
        """Values ``[frames, 16]`` of a random face that speaks."""
        rig = Rig(self._parts, random_identity(self.asset, rng))
        motion = random_motion(self.asset, phonemes, sound.astype(np.float32) / 32768, frames, FPS, rng)
        return values_of_actions(self.asset, rig, motion.actions)


def write_speech_shards(
    labeller: SpeechLabeller,
    recordings: Sequence[Recording],
    output: Path,
    split: str,
    licence: str = "unknown",
    resume: bool = True,
) -> int:
    """Write recordings as shards ``spoken-<split>-00000.safetensors``, ...; returns the number of clips there.

    Args:
        licence: noted with every clip; resume: keep the shards that are already there (of the same recordings).
            Recordings that cannot be used are passed over with a warning.

    Raises:
        MediaError: if there are recordings and none of them could be used.
    """
    from threadpoolctl import threadpool_limits

    def write(target: Path, part: Sequence[Recording], first: int) -> int:
        with threadpool_limits(1):  # many small matrix products
            clips = _label(labeller, part, split, licence)
        if clips:
            write_spoken_shard(target, clips)
        return len(clips)

    written = write_parts(recordings, output, f"spoken-{split}", RECORDINGS_PER_SHARD, write, resume, "recordings")
    if recordings and not written:
        raise MediaError(f"None of the {len(recordings)} recordings could be used; see the warnings.")
    return written


def _label(
    labeller: SpeechLabeller, recordings: Sequence[Recording], split: str, licence: str
) -> list[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Sound, values and metadata of the clips of a shard."""
    labelled: list[tuple[np.ndarray, np.ndarray, dict[str, Any]]] = []
    for recording in recordings:
        try:
            clips = list(labeller.clips(recording))
        except (AudioError, MediaError) as error:
            logger.warning("%s left out: %s", recording.path.name, error)
            continue
        for number, (sound, values) in enumerate(clips):
            info: dict[str, Any] = dict.fromkeys(INFO_FIELDS, "")
            info.update(
                source=SOURCE,
                identity=recording.speaker,
                language="en",
                voice=recording.speaker,
                sentence=recording.path.stem,
                fps=FPS,
                split=split,
                licence=licence,
                seed=labeller.seed,
                index=number,
            )
            labelled.append((sound, values, info))
    return labelled


def _read(path: Path) -> np.ndarray:
    """Sound ``[s]`` int16 at 16 kHz, whole frames of it.

    Raises:
        AudioError: if it cannot be decoded; MediaError: if it is too short or too long.
    """
    loaded = load_audio(path)
    if not MIN_SECONDS <= loaded.duration <= MAX_SECONDS:
        raise MediaError(
            f"it lasts {loaded.duration:.1f} s; cut recordings to {MIN_SECONDS} to {MAX_SECONDS} s, a few sentences"
        )
    mono = to_mono_16k(loaded.waveform, loaded.sample_rate)
    whole = len(mono) * FPS // SAMPLE_RATE * SAMPLE_RATE // FPS
    return (mono[:whole].clamp(-1, 1) * 32767).round().to(torch.int16).numpy()


def _between(phonemes: list[Phoneme], start: float, seconds: float) -> list[Phoneme]:
    """The phonemes of a segment and just around it, with times from its start."""
    moved = [Phoneme(p.symbol, p.start - start, p.end - start) for p in phonemes]
    return [p for p in moved if p.end > -0.3 and p.start < seconds + 0.3]
