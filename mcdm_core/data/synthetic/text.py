"""Sentences of ten languages, put together from a bank of phrases; no main clause is shared by two splits."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

SPLITS: tuple[str, ...] = ("train", "val", "test")
_MAIN_CLAUSES: dict[str, slice] = {"train": slice(0, 10), "val": slice(10, 12), "test": slice(12, 14)}


@functools.cache
def _bank() -> dict[str, dict]:
    return json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))


def languages() -> tuple[str, ...]:
    """Codes of the ten languages of the paper."""
    return tuple(_bank())


def voice_of(language: str) -> str:
    """espeak-ng's name for the language's voice."""
    return _bank()[language]["voice"]


def main_clauses(language: str, split: str) -> list[str]:
    """Main clauses of a split; those of different splits are disjoint."""
    return _bank()[language]["main"][_MAIN_CLAUSES[split]]


def random_sentence(language: str, split: str, rng: np.random.Generator) -> str:
    """A sentence in the language's own script."""
    bank = _bank()[language]
    parts = [rng.choice(main_clauses(language, split))]
    if rng.random() < 0.6:
        parts.insert(0, rng.choice(bank["open"]))
    if rng.random() < 0.6:
        parts.append(rng.choice(bank["end"]))
    return ", ".join(str(part) for part in parts) + "."


def spoken_form(language: str, sentence: str) -> str:
    """What espeak-ng is given: the sentence, Chinese as pinyin with tone numbers.

    Raises:
        ImportError: for Chinese without pypinyin.
    """
    if language != "zh":
        return sentence
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise ImportError("Chinese speech needs the package `pypinyin` (the data extra)") from error
    return " ".join(lazy_pinyin(sentence.replace("\uff0c", ", "), style=Style.TONE3))
