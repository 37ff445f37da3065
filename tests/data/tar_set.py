"""Clips in tars as ``curate`` writes them."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np


def add_clip(tar: tarfile.TarFile, key: str, frames: int, seed: int) -> None:
    """A clip as ``curate`` writes it: coarse coloured noise, landmarks, a tone."""
    import av

    random = np.random.default_rng(seed)
    video, sound, labels = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with av.open(video, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 32, 32, "yuv420p", {"crf": "1"}
        for picture in random.integers(0, 255, (frames, 4, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(sound, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000, layout="mono")
        tone = (8000 * np.sin(np.arange(640 * frames) * 0.1 * (seed + 1))).astype(np.int16)
        block = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        block.sample_rate = 16_000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    shapes = {"landmarks": (68, 2), "pose": (6,), "values": (16,), "squares": (3,)}
    np.savez(labels, **{name: random.random((frames, *shape)).astype(np.float32) for name, shape in shapes.items()})
    told = {"key": key, "frames": frames, "fps": 25, "identity": f"person {seed}", "language": "de", "licence": "CC0"}
    members = {"mp4": video, "flac": sound, "npz": labels, "json": io.BytesIO(json.dumps(told).encode())}
    for kind, data in members.items():
        info = tarfile.TarInfo(f"{key}.{kind}")
        info.size = len(data.getvalue())
        tar.addfile(info, io.BytesIO(data.getvalue()))
