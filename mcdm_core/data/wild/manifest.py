"""What only a person knows of a video: who is in it, in which language, who agreed, under which licence.

A CSV or JSON-lines file with a row a video; ``file`` is its path below the folder of videos:

    file,identity,language,consent,licence,url
    interview.mp4,anna,de,yes,CC BY 4.0,https://...
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import MediaError

SUFFIXES = (".mp4", ".m4v", ".mpg", ".mpeg", ".mkv", ".mov", ".webm", ".avi", ".ts")
_YES, _NO = ("yes", "true", "1", "given"), ("no", "false", "0", "")


@dataclass(frozen=True)
class Source:
    """A video with what is known of it.

    Attributes:
        path: of the file; name: its path below the folder, with forward slashes, by which it is known.
        identity: the person; by default the file, so that a person of several files must be named to stay in one split.
        consent: whether the people in it agreed to its use.
    """

    path: Path
    name: str
    identity: str
    language: str = "unknown"
    consent: bool = False
    licence: str = "unknown"
    url: str = ""


def list_sources(folder: Path, manifest: Path | None = None, consent: bool = False) -> list[Source]:
    """The videos below a folder by sorted name, with what the manifest says of them.

    Args:
        consent: what holds for videos the manifest says nothing of.

    Raises:
        MediaError: if the folder is missing or empty, or a row of the manifest is unusable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder; give one that holds videos.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not paths:
        raise MediaError(f"{folder} holds no videos ({', '.join(SUFFIXES)}).")
    rows = {} if manifest is None else _read(Path(manifest))
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    if unknown := sorted(set(rows) - set(names)):
        raise MediaError(f"{manifest} names {unknown[0]!r}, which is not below {folder}; correct or delete the row.")
    found = []
    for name, path in names.items():
        row = rows.get(name, {})
        agreed = _agreed(row["consent"], name, manifest) if "consent" in row else consent
        found.append(
            Source(
                path,
                name,
                row.get("identity") or name,
                row.get("language") or "unknown",
                agreed,
                row.get("licence") or "unknown",
                row.get("url") or "",
            )
        )
    return found


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{path} cannot be read ({error}); give a CSV or JSON-lines file in UTF-8.") from error
    rows: list[dict[str, Any]] = []
    if path.suffix.lower() in (".jsonl", ".json"):
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise MediaError(f"Line {number} of {path} is no JSON object ({error}).") from error
    else:
        try:
            rows = list(csv.DictReader(text.splitlines()))
        except csv.Error as error:  # a field without an end; Python 3.10 takes no zero bytes either
            raise MediaError(f"{path} is no CSV table ({error}); save it again as CSV in UTF-8.") from error
    if any(not row.get("file") for row in rows):
        raise MediaError(f"A row of {path} has no 'file'; each needs the video's path below the folder.")
    return {str(row["file"]): {key: str(value or "") for key, value in row.items() if key} for row in rows}


def _agreed(word: str, name: str, manifest: Path | None) -> bool:
    if word.strip().lower() not in (*_YES, *_NO):
        raise MediaError(f"{manifest} says consent {word!r} for {name}; write yes or no.")
    return word.strip().lower() in _YES
