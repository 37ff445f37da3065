"""Over all clips: copies of one another, and which people are kept apart for validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from .settings import CurateSettings
from .video import Record


def mark_duplicates(records: Sequence[Record], settings: CurateSettings) -> None:
    """Give the fault "duplicate" to kept clips whose pictures and sound an earlier one has too.

    Clips are compared by their signatures (``sound.py``), so a copy may be coded anew, scaled or renamed. One that is
    cut elsewhere is another clip. Which is the earlier one is decided by the sources' names and times.
    """
    kept = sorted((r for r in records if not r["fault"]), key=lambda r: (r["source"], r["begin"]))
    if not kept:
        return
    signatures = {
        kind: np.stack([np.frombuffer(bytes.fromhex(r[f"{kind}_signature"]), np.uint8) for r in kept])
        for kind in ("sound", "picture")
    }
    dropped = np.zeros(len(kept), bool)
    for number in range(1, len(kept)):
        alike = ~dropped[:number]
        for bits in signatures.values():
            different = np.unpackbits(bits[:number] ^ bits[number], axis=1).sum(axis=1, dtype=np.int64)
            alike = alike & (different <= settings.duplicate_distance)
        if alike.any():
            dropped[number] = True
            kept[number]["fault"] = "duplicate"
            kept[number]["copy_of"] = kept[int(alike.argmax())]["key"]


def split_of(identity: str, settings: CurateSettings) -> str:
    """The split a person belongs to: ``train``, ``val`` or ``test``; the same in every set and on every machine."""
    place = int.from_bytes(hashlib.sha256(f"split {identity}".encode()).digest()[:8], "big") / 2**64
    if place < settings.test_share:
        return "test"
    return "val" if place < settings.test_share + settings.val_share else "train"
