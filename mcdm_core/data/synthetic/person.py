"""One person who speaks in many clips: who it is, and what of speech and movement is theirs.

Every rendered clip has a person of its own, named by the numbers that decide the clip. That name asks for more clips
of the very same person: the same head, hair, clothes, language, voice and manner of moving.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import MCDMError
from .motion import Manner
from .people.identity import Identity
from .speech.speech import Voice
from .speech.text import SPLITS

_NAME = re.compile(rf"synthetic-(\d+)-({'|'.join(SPLITS)})-(\d+)", re.ASCII)


class PersonNumber(NamedTuple):
    """The clip whose person it is.

    >>> str(PersonNumber(7, "test", 0))
    'synthetic-7-test-0'
    """

    seed: int
    split: str
    clip: int

    @classmethod
    def parse(cls, text: str) -> PersonNumber:
        """A person by name, or by a number alone: the first person of the test clips of that seed.

        >>> PersonNumber.parse("7") == PersonNumber.parse("synthetic-7-test-0")
        True

        Raises:
            MCDMError: if it is neither.
        """
        if re.fullmatch(r"\d+", text, re.ASCII):
            return cls(int(text), "test", 0)
        found = _NAME.fullmatch(text)
        if found is None:
            raise MCDMError(
                f"{text!r} is no synthetic person: expected a number from 0 on, or the identity of a rendered clip as "
                "synthetic-7-test-0."
            )
        return cls(int(found[1]), found[2], int(found[3]))

    def __str__(self) -> str:
        return f"synthetic-{self.seed}-{self.split}-{self.clip}"

    @property
    def key(self) -> tuple[int, int, int]:
        """Numbers for a random generator."""
        return self.seed, SPLITS.index(self.split), self.clip


@dataclass(frozen=True)
class Person:
    """What is alike in all clips of one person."""

    number: PersonNumber
    identity: Identity
    language: str
    voice: Voice
    manner: Manner
