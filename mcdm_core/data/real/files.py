"""Which files of a folder are data, and which of them are kept apart for validation."""

from __future__ import annotations

from pathlib import Path

from ...errors import MediaError


def list_files(folder: Path, suffixes: tuple[str, ...], what: str, keep_apart: int) -> tuple[list[Path], list[Path]]:
    """Files with one of ``suffixes`` by sorted name, the last ones as the second list (validation).

    Args:
        keep_apart: how many are kept for validation, but a fifth of them all at most.

    Raises:
        MediaError: if the folder is missing or holds none; ``what`` names what was looked for.
    """
    if not Path(folder).is_dir():
        raise MediaError(f"{folder} is no folder; give one that holds {what}.")
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in suffixes)
    if not paths:
        raise MediaError(f"{folder} holds no {what} ({', '.join(suffixes)}); give a folder that does.")
    cut = len(paths) - min(keep_apart, len(paths) // 5)
    return paths[:cut], paths[cut:]
