"""Writes the corpus, a small file of each kind that a reader takes: ``python -m tests.fuzz.make_corpus``."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from mcdm_core.config import TINY, to_json
from mcdm_core.models.motion_codec import MotionTokens
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline.memory import MotionMemory

from .readers import CORPUS

SOUNDS = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "ogg": "libopus", "m4a": "aac", "adts": "aac"}
VIDEOS = {"mp4": "libx264", "webm": "libvpx", "avi": "mjpeg", "mpegts": "mpeg2video"}


def _folder(kind: str) -> Path:
    (CORPUS / kind).mkdir(parents=True, exist_ok=True)
    return CORPUS / kind


def _sound(name: str, codec: str) -> bytes:
    file, rate = io.BytesIO(), 48_000
    with av.open(file, "w", format={"m4a": "mp4"}.get(name, name)) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        wave = (np.sin(np.arange(4096) / 20) * 9000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def _video(name: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=name) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        for index in range(30 if name == "mpegts" else 3):  # a shorter one is not recognised
            frame = av.VideoFrame.from_ndarray(noise if name == "mpegts" else np.full_like(noise, 60 * index))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def main() -> None:
    """Write all of it."""
    for name, codec in SOUNDS.items():
        (_folder("sound") / f"seed.{name}").write_bytes(_sound(name, codec))
    for name, codec in VIDEOS.items():
        (_folder("video") / f"seed.{name}").write_bytes(_video(name, codec))
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "tga"):
        more = {"exif": exif} if kind in ("png", "jpeg", "webp") else {}
        picture.save(_folder("picture") / f"seed.{kind}", format=kind, **more)
    tokens = MotionTokens(*(torch.ones(2, 1, 2) for _ in range(3)))
    Motion(tokens, torch.ones(2, 68, 2), torch.ones(2, 16), 25.0).save(_folder("motion") / "seed.safetensors")

    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape)

    archive = ones(1, 2, 3, 1, 1), ones(1, 2, 2, 3)
    unet = {"9.0": {"a": ones(1, 2, 3)}}
    memory = MotionMemory(ones(1, 2, 3), *archive, unet, tokens, ones(2, 1, 3), 2, 1, 5, "x")
    memory.save(_folder("memory") / "seed.safetensors")
    (_folder("configuration") / "tiny.json").write_text(to_json(TINY))


if __name__ == "__main__":
    main()
