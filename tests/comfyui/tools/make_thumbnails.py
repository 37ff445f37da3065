"""Makes the templates' thumbnails from videos they have really made.

Usage: ``python tests/comfyui/tools/make_thumbnails.py OUTPUT`` with ComfyUI's output folder after every template has
run; the first video of each counts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageOps

ROOT = Path(__file__).resolve().parents[3]
VIDEOS = {
    "MCDM 01 Talking portrait": "talking_portrait",
    "MCDM 02 Step by step": "step_by_step",
    "MCDM 03 Dub a video": "dubbed",
    "MCDM 04 Expressions over time": "expressions",
    "MCDM 05 Motion edited by hand": "edited_motion",
    "MCDM 06 Head driven by a video": "head_driven",
    "MCDM 07 Long video to disk": "long_video",
    "MCDM 08 Clip by clip with memory": "clip_by_clip",
    "MCDM 09 Continue a video": "continued_video",
    "MCDM 10 Upscaled": "upscaled_streaming",
    "MCDM 11 Two speakers": "two_speakers",
}
SIZE, STRIP, WAVE = 448, 4, 64
BACKGROUND, COLOUR = (24, 24, 28), (255, 150, 90)


def read(path: Path) -> tuple[list[Image.Image], np.ndarray]:
    """All frames and the mono sound of a video."""
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(container.streams.video[0])]
    with av.open(str(path)) as container:
        sound = [frame.to_ndarray().mean(0) for frame in container.decode(container.streams.audio[0])]
    return frames, np.concatenate(sound)


def fitted(frame: Image.Image, side: int) -> Image.Image:
    """A frame within a square."""
    return ImageOps.pad(frame, (side, side), Image.Resampling.LANCZOS, color=BACKGROUND)


def thumbnail(frames: list[Image.Image], sound: np.ndarray) -> Image.Image:
    """A large frame, a strip of smaller ones through the video, and the waveform."""
    small = SIZE // STRIP
    canvas = Image.new("RGB", (SIZE, SIZE + small + WAVE), BACKGROUND)
    canvas.paste(fitted(frames[len(frames) // 3], SIZE), (0, 0))
    for index in range(STRIP):
        frame = frames[round((index + 0.5) / STRIP * (len(frames) - 1))]
        canvas.paste(fitted(frame, small), (index * small, SIZE))
    draw = ImageDraw.Draw(canvas)
    middle = SIZE + small + WAVE // 2
    columns = np.array_split(np.abs(sound), SIZE // 4)
    loudest = max(float(np.abs(sound).max()), 1e-6)
    for index, column in enumerate(columns):
        half = max(1, round(float(column.max()) / loudest * (WAVE // 2 - 4)))
        draw.line((4 * index + 1, middle - half, 4 * index + 1, middle + half), fill=COLOUR, width=2)
    return canvas


def main(output: Path) -> None:
    """Write a thumbnail beside every template."""
    for workflow, prefix in VIDEOS.items():
        videos = sorted((output / "mcdm").glob(f"{prefix}_*.mp4"), key=lambda path: path.stat().st_mtime)
        frames, sound = read(videos[0])
        thumbnail(frames, sound).save(ROOT / "workflows" / f"{workflow}.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
