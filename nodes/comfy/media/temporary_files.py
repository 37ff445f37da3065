"""Videos that lie in ComfyUI's temporary folder until Save Video keeps them, and how a node's result names a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def temporary_video(name: str) -> Path:
    """A new file in ComfyUI's temporary folder."""
    import folder_paths

    folder, stem, counter, _, _ = folder_paths.get_save_image_path(name, folder_paths.get_temp_directory())
    path = Path(folder) / f"{stem}_{counter:05d}_.mp4"
    while path.exists():
        counter += 1
        path = Path(folder) / f"{stem}_{counter:05d}_.mp4"
    return path


def place_of(path: Path, kind: str = "temp") -> dict[str, str]:
    """``filename``, ``subfolder`` and ``type`` by which ``GET /view`` serves a file of ``temp`` or ``output``."""
    import folder_paths

    subfolder = path.parent.relative_to(folder_paths.get_directory_by_type(kind) or "").as_posix()
    return {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": kind}


def video_result(path: Path, kind: str = "temp") -> dict[str, Any]:
    """A node's result for the history, under ``video``.

    Under ``images`` ComfyUI's page would show the video a second time, beside the node's own player.
    """
    return {"video": [place_of(path, kind)]}
