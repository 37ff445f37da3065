"""Which files of a folder are data, and which of them are kept apart for validation."""

from __future__ import annotations

from pathlib import Path

from ..errors import MediaError


def list_files(folder: Path, suffixes: tuple[str, ...], what: str, keep_apart: int) -> tuple[list[Path], list[Path]]:
    """Files with one of ``suffixes`` by sorted name, the last ``keep_apart`` as the second list (validation).

    Raises:
        MediaError: if there are none; ``what`` names what was looked for.
    """
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in suffixes)
    if not paths:
        raise MediaError(f"{folder} holds no {what} ({', '.join(suffixes)}); give a folder that does.")
    cut = len(paths) - keep_apart
    return paths[:cut], paths[cut:]
