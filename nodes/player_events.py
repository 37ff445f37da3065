"""Events for nodes that show one finished video in the player: a single clip, or an upscaled whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..mcdm_core.media.audio import Audio
from .curves import NAMES
from .media_bridge import waveform_peaks
from .progress import send_event


def show_whole_video(
    node: str,
    path: Path,
    size: tuple[int, int],
    frames: int,
    fps: float,
    audio: Audio | None,
    curves: dict[str, list[float]] | None = None,
) -> None:
    """Tell the player of a video in the temporary folder as if it were one clip.

    Args:
        size: width and height.
        curves: one number a frame each; zeros if there is no motion.
    """
    import folder_paths

    subfolder = path.parent.relative_to(folder_paths.get_temp_directory()).as_posix()
    place = {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": "temp"}
    peaks = waveform_peaks(audio, frames, fps) if audio is not None else [0.0] * (4 * frames)
    common: dict[str, Any] = {"node": node, "clips": 1, "frames": frames, "fps": fps, "peaks": peaks}
    start = {"clip_frames": frames, "width": size[0], "height": size[1], "resumed": 0}
    send_event("start", common | start)
    curves = curves or {name: [0.0] * frames for name in NAMES}
    about = {"clip": 0, "first_frame": 0, "frames_per_second": None, "eta": 0.0, "curves": curves}
    send_event("clip", common | about | place)
    send_event("done", {"node": node, "frames": frames, "fps": fps, "stopped": False} | place)
