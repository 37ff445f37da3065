"""Videos that lie in ComfyUI's temporary folder until Save Video keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui


def temporary_video(name: str) -> Path:
    """A new file in ComfyUI's temporary folder."""
    import folder_paths

    folder, stem, counter, _, _ = folder_paths.get_save_image_path(name, folder_paths.get_temp_directory())
    path = Path(folder) / f"{stem}_{counter:05d}_.mp4"
    while path.exists():
        counter += 1
        path = Path(folder) / f"{stem}_{counter:05d}_.mp4"
    return path


def preview_of(path: Path) -> Any:
    """The video as a preview on the node."""
    import folder_paths

    subfolder = path.parent.relative_to(folder_paths.get_temp_directory()).as_posix()
    return ui.PreviewVideo([ui.SavedResult(path.name, "" if subfolder == "." else subfolder, io.FolderType.temp)])
