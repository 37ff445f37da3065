"""A line of a run's journal: a finished clip, with sizes and checksums of its files."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FinishedClip:
    """One line of the journal.

    Attributes:
        index: counts clips; first_frame: counts frames, from the run's beginning; frames: of this clip.
        curves: what a player draws for it.
        files: size and CRC-32 of the pictures, the motion and the memory after it.
    """

    index: int
    first_frame: int
    frames: int
    curves: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: str) -> FinishedClip:
        """Read what :meth:`to_line` wrote.

        Raises:
            ValueError, TypeError: if it is damaged.
        """
        check, _, text = line.partition(" ")
        if check != _check(text):
            raise ValueError("a line is damaged")
        entry = json.loads(text)
        files = {str(name): (int(size), int(check)) for name, (size, check) in entry.pop("files").items()}
        clip = cls(**entry, files=files)
        if not all(type(n) is int and n >= 0 for n in (clip.index, clip.first_frame, clip.frames)):
            raise ValueError("a number is missing")
        if not isinstance(clip.curves, dict) or set(files) != {"clip", "motion", "memory"}:
            raise ValueError("a part is missing")
        return clip

    def to_line(self) -> str:
        """The line of the journal, after its own checksum."""
        text = json.dumps(asdict(self))
        return f"{_check(text)} {text}\n"


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def file_facts(path: Path) -> tuple[int, int] | None:
    """Size and CRC-32 of a file; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size, check = 0, 0
            while block := file.read(1 << 20):
                size, check = size + len(block), zlib.crc32(block, check)
    except OSError:
        return None
    return size, check
