"""Sentences of ten languages, put together from a bank of phrases; no phrase is shared by two splits."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from ....errors import PackageError

SPLITS: tuple[str, ...] = ("train", "val", "test")
PHRASE_KINDS: tuple[str, ...] = ("open", "main", "end", "who", "does", "where")
# The last two phrases of every list are the test's, the two before the validation's.
_PART: dict[str, slice] = {"train": slice(None, -4), "val": slice(-4, -2), "test": slice(-2, None)}
_ENGLISH_SHARE = 0.35
_COMMAND_SHARE = 0.3
_BALANCE = 9
"""Sets the order of the languages apart from the draws of clips with the same numbers."""

# The grammar of the GRID corpus (Cooke et al. 2006); "ay" and "zed" as a voice spells the letters.
_COMMAND: tuple[tuple[str, ...], ...] = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    ("ay", *"BCDEFGHIJKLMNOPQRSTUVXY", "zed"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)


@functools.cache
def _bank() -> dict[str, dict]:
    return json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


def languages() -> tuple[str, ...]:
    """Codes of the ten languages of the paper."""
    return tuple(_bank())


def voice_of(language: str) -> str:
    """espeak-ng's name for the language's voice."""
    return _bank()[language]["voice"]


def phrases(language: str, split: str, kind: str) -> list[str]:
    """Phrases of a split, of one of :data:`PHRASE_KINDS`; those of different splits are disjoint."""
    return _bank()[language][kind][_PART[split]]


def random_language(rng: np.random.Generator) -> str:
    """One of the ten, English more often than the others: most of the real recordings are English."""
    return "en" if rng.random() < _ENGLISH_SHARE else str(rng.choice([x for x in languages() if x != "en"]))


def balanced_language(seed: int, split: str, index: int) -> str:
    """The language of clip ``index`` where all are to be spoken alike: each once in every ten clips, in any order."""
    block, place = divmod(index, len(languages()))
    order = np.random.default_rng([seed, SPLITS.index(split), block, _BALANCE]).permutation(len(languages()))
    return languages()[order[place]]


def random_sentence(language: str, split: str, rng: np.random.Generator) -> str:
    """A sentence in the language's own script: a main clause, or who does what and where, maybe with more around it.

    A share of the English ones for training are commands in GRID's grammar, which no other split hears.
    """
    if language == "en" and split == "train" and rng.random() < _COMMAND_SHARE:
        return " ".join(str(rng.choice(words)) for words in _COMMAND) + "."

    def draw(kind: str) -> str:
        return str(rng.choice(phrases(language, split, kind)))

    if rng.random() < 0.5:
        joint = "" if language in ("zh", "th") else " "
        # Chinese says the place before the verb.
        kinds = ("who", "where", "does") if language == "zh" else ("who", "does", "where")
        parts = [joint.join(draw(kind) for kind in kinds)]
    else:
        parts = [draw("main")]
    if rng.random() < 0.45:
        parts.insert(0, draw("open"))
    if rng.random() < 0.45:
        parts.append(draw("end"))
    return ", ".join(parts) + "."


def spoken_form(language: str, sentence: str) -> str:
    """What the voice is given: the sentence, Chinese as pinyin with tone numbers.

    Raises:
        ImportError: for Chinese without pypinyin.
    """
    if language != "zh":
        return sentence
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise PackageError("Chinese speech needs the package `pypinyin` (the data extra)") from error
    return " ".join(lazy_pinyin(sentence.replace("\uff0c", ", "), style=Style.TONE3))
