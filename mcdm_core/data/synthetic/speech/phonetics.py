"""Text to the phones that neural voices read, and these phones to what a mouth does.

Kokoro's alphabet is IPA. Each diphthong and affricate has a letter of its own, and arrows are Chinese tones.
espeak-ng tells how a text is pronounced. Chinese is spelt from its pinyin, since espeak-ng's phones tell no tone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import unicodedata
from pathlib import Path

from ....errors import PackageError
from .speech import TIE, phones
from .text import voice_of

PAUSES = ",.;:!?\u2014\u2026"
"""Signs that are read as a pause."""
_SIGNS = str.maketrans("\u060c\uff0c\u3002\u061f\uff1f\uff01\u061b", ",,.??!;")
_STRESS = "\u02c8\u02cc"
_MODIFIERS = "\u02d0\u02b0\u02b2\u0303\u1d5d\u2193\u2192\u2197\u2198"
"""Letters that change the one before: long, aspirated, soft, nasal, tones."""
_UNSPOKEN = "\u2193\u2192\u2197\u2198"
_BUZZING = ("zh", "ch", "sh", "r", "z", "c", "s")
_BUZZED = "\u02680"


@dataclasses.dataclass(frozen=True)
class Phone:
    """Some letters of the voices' alphabet that are spoken as one: ``symbol`` is the IPA of it, "" for a pause."""

    letters: str
    symbol: str


@functools.cache
def _tables() -> dict:
    return json.loads((Path(__file__).parent / "neural_phones.json").read_text(encoding="utf-8"))


def spelt(text: str, language: str, alphabet: frozenset[str]) -> str:
    """A text in the voices' letters, with its stress, spaces between words, and :data:`PAUSES`.

    Args:
        text: in the language's own script; language: its code in ``text.py``; alphabet: letters that the voices know.
            Of others the nearest one is taken, if there is any.

    Raises:
        PackageError: if espeak-ng is missing, or pypinyin for Chinese.
    """
    parts = re.split(rf"\s*([{re.escape(PAUSES)}])\s*", text.translate(_SIGNS))
    said = [part if part in PAUSES else _clause(part, language) for part in parts if part]
    written = "".join(f"{part} " if part in PAUSES else part for part in said).strip()
    known = "".join(_known(letter, alphabet) for letter in unicodedata.normalize("NFC", written))
    return re.sub(" +", " ", known)


def _known(letter: str, alphabet: frozenset[str]) -> str:
    """A letter, or the nearest that the voices know, its accents apart; "" if there is none."""
    if letter in alphabet:
        return letter
    near = _tables()["nearest"].get(letter) or unicodedata.normalize("NFD", letter)
    return "".join(x for x in near if x in alphabet)


def _clause(text: str, language: str) -> str:
    if language == "zh":
        return _chinese(text)
    said = phones(text, voice_of(language))
    for tied, letter in _tables()["tied"].items():
        said = said.replace(tied, letter)
    return re.sub(r"[0-9\-]", "", said.replace(TIE, ""))


def _chinese(text: str) -> str:
    try:
        from pypinyin import Style, lazy_pinyin
        from pypinyin.seg.mmseg import seg
    except ImportError as error:
        raise PackageError("Chinese speech needs the package `pypinyin` (the data extra)") from error
    words = []
    for word in seg.cut(text):
        initials = lazy_pinyin(word, style=Style.INITIALS, strict=True)
        finals = lazy_pinyin(word, style=Style.FINALS_TONE3, strict=True)
        words.append("".join(_syllable(a, b) for a, b in zip(initials, finals, strict=True)))
    return " ".join(words)


def _syllable(initial: str, final: str) -> str:
    """A syllable of pinyin, its final with the tone's number behind; "" for what is none."""
    tables, tone = _tables(), 0
    if final[-1:].isdigit():
        final, tone = final[:-1], int(final[-1])
    # The vowel after these is no i, it is the consonant gone on.
    core = _BUZZED if final == "i" and initial in _BUZZING else tables["finals"].get(final, "")
    return tables["initials"].get(initial, "") + core.replace("0", tables["tones"][tone])


def phones_in(letters: str) -> list[Phone]:
    """The phones of :func:`spelt` text in order; together they have all of its letters.

    >>> [phone.letters for phone in phones_in("b\u02c8o\u02d0t, A")]
    ['b', '\u02c8o\u02d0', 't', ', ', 'A']
    """
    ipa = _tables()["ipa"]
    pieces = re.findall(rf"[ {re.escape(PAUSES)}]+|[{_STRESS}]*[^ {re.escape(PAUSES)}][{_MODIFIERS}]*", letters)
    found = []
    for piece in pieces:
        plain = piece.strip(f" {PAUSES}{_STRESS}{_UNSPOKEN}")
        found.append(Phone(piece, "".join(ipa.get(letter, letter) for letter in plain)))
    return found
