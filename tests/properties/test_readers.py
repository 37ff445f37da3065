"""Readers of foreign files on damaged ones: an answer or one of our errors, in bounded time.

``MCDM_FUZZ=200000`` sets the number of inputs; the short form takes a few of each kind.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.fuzz.readers import READERS, read, seeds

INPUTS = int(os.environ.get("MCDM_FUZZ", "180"))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled or exchanged; sometimes a number made large."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        at, length = chance.randrange(len(changed)), chance.randint(1, 16)
        match chance.randrange(6):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length] * chance.choice((1, 1, 64))
            case 4:
                changed[at : at + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", bytes(4)))
            case 5:
                del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_end_in_our_errors_or_are_read(kind: str) -> None:
    chance, taken, longest = random.Random(kind), 0, 0.0
    corpus = seeds(kind)
    assert all(read(kind, data) for data in corpus), "the corpus itself is whole"
    count = max(1, INPUTS // len(READERS))
    for _ in range(count):
        began = time.process_time()
        taken += read(kind, damaged(chance.choice(corpus), chance))
        longest = max(longest, time.process_time() - began)
    print(f"\n{kind}: {count} inputs, {taken} read, the longest in {longest:.2f} s of processor time")
    assert longest < 10
