"""Readers of foreign files on damaged ones: an answer or one of our errors, in bounded time.

``MCDM_FUZZ=200000`` sets the number of inputs, ``MCDM_FUZZ_SEED`` draws others; the short form takes a few of each
kind.
"""

from __future__ import annotations

import os
import random
import resource
import time
import traceback
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS, read, seeds

INPUTS = int(os.environ.get("MCDM_FUZZ", "300"))
SEED = os.environ.get("MCDM_FUZZ_SEED", "")


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


def _peak() -> int:
    """The most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_end_in_our_errors_or_are_read(kind: str, tmp_path: Path) -> None:
    if kind == "raw_video":
        pytest.importorskip("scenedetect", reason="raw videos are cut by the extra 'wild'")
    chance, taken, longest = random.Random(f"{kind}{SEED}"), 0, 0.0
    before = _peak()  # of the process: other tests may have needed more
    corpus = seeds(kind)
    names = list(corpus)
    found: dict[str, bytes] = {}
    for name, data in corpus.items():
        assert read(kind, data) or "/damaged_" in name, f"{name} is not read"
    for _ in range(max(1, INPUTS // len(READERS))):
        data = damaged(corpus[chance.choice(names)], chance)
        began = time.process_time()
        try:
            taken += read(kind, data)
        except Exception as error:  # all of it is found before the test fails
            place = traceback.extract_tb(error.__traceback__)[-1]
            found.setdefault(f"{type(error).__name__} at {place.filename}:{place.lineno}", data)
        longest = max(longest, time.process_time() - began)
    peak = _peak()
    print(f"\n{kind}: {taken} read, the longest in {longest:.2f} s of processor time, {peak} MiB at the peak so far")
    for number, (said, data) in enumerate(found.items()):
        (tmp_path / f"{kind}_{number}").write_bytes(data)
        print(f"{tmp_path / f'{kind}_{number}'}: {said}")
    assert not found and longest < 10 and peak <= max(1536, before)
