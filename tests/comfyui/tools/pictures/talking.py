"""The README's moving picture: the astronaut and the synthetic sample person say the sample voice's first words."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[4]
SAMPLES = ROOT / "mcdm_core" / "assets" / "samples"
SIDE, SECONDS, FPS, EVERY, RATE = 256, 4.48, 25, 2, 16_000
"""Every second frame of a part: the file stays small enough for a README."""
SHOWN = {"astronaut.jpg": (92, 0, 348, 256), "portrait.png": (0, 0, 384, 384)}
"""What is shown of the videos, pixels: of the astronaut her head, pixel by pixel."""


def first_words(path: Path) -> None:
    """Write the beginning of the sample voice."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(SAMPLES / "voice.flac")) as source:
        blocks = [out.to_ndarray()[0] for frame in source.decode(audio=0) for out in resampler.resample(frame)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate(blocks)[: round(SECONDS * RATE)].tobytes())


def speak(portrait: str, folder: Path) -> list[Image.Image]:
    """Frames of a sample portrait that says them, by the command line."""
    voice, path = folder / "voice.wav", folder / f"{portrait}.mp4"
    first_words(voice)
    command = [sys.executable, "-m", "mcdm_core", "generate", "--portrait", str(SAMPLES / portrait)]
    subprocess.run([*command, "--audio", str(voice), "--output", str(path)], cwd=ROOT, check=True)
    with av.open(str(path)) as container:
        return [frame.to_image().crop(SHOWN[portrait]) for frame in container.decode(container.streams.video[0])][
            ::EVERY
        ]


def write_talking(path: Path) -> None:
    """Write both side by side as an animated WebP."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = zip(*(speak(name, Path(folder)) for name in SHOWN), strict=True)
        frames = []
        for pair in pairs:
            canvas = Image.new("RGB", (2 * SIDE, SIDE))
            for index, frame in enumerate(pair):
                canvas.paste(frame.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (index * SIDE, 0))
            frames.append(canvas)
    shown = 1000 * EVERY // FPS
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0, quality=60, method=6)
