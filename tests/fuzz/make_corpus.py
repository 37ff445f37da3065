"""Writes the corpus, a small file of each kind that a reader takes: ``python -m tests.fuzz.make_corpus``."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import numpy as np
import torch
from PIL import Image

from mcdm_core.adapter import AdapterInfo, adapter_metadata
from mcdm_core.checkpoint import save_checkpoint
from mcdm_core.config import TINY, to_json
from mcdm_core.data.shards import write_spoken_shard
from mcdm_core.data.tar_shards import write_flac, write_tar
from mcdm_core.files import write_tensors
from mcdm_core.media.transparency.credentials import sign_video
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.models.image_encoder import build_image_encoder
from mcdm_core.models.motion_codec import MotionTokens
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline.memory import MotionMemory
from mcdm_core.pipeline.run.run_folder import RunFolder
from tests.conftest import small_config
from tests.media.test_credentials import signer

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


def _video(name: str, codec: str, times: Sequence[int] | None = None) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=name) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        for index in range(30 if name == "mpegts" else 3):  # a shorter one is not recognised
            frame = av.VideoFrame.from_ndarray(noise if name == "mpegts" else np.full_like(noise, 60 * index))
            frame.pts = None if times is None else times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _run_of_two_clips() -> None:
    """The files that a journal speaks of, and the journal."""
    run_folder = _folder("run")
    with RunFolder(run_folder) as run:
        for index in range(len(run.clips), 2):
            tokens = MotionTokens(*(torch.full((2, 1, 2), float(index)) for _ in range(3)))
            face, archive, seen = (
                torch.full(shape, float(index)) for shape in ((1, 2, 2), (1, 2, 2, 1, 1), (1, 2, 2, 1))
            )
            memory = MotionMemory(face, archive, seen, frame_index=2 * (index + 1))
            run.add(torch.full((2, 3, 32, 32), index / 2), 25, None, {}, memory, Motion(tokens, None, None, 25.0))
    shutil.move(run_folder / "journal.jsonl", _folder("journal") / "seed.jsonl")
    (run_folder / "lock").unlink()


def _damaged_shards() -> None:
    """Shards and tars that are whole as files, but hold what no reader expects."""
    for name, key, clips in (("json", "0/values", "[{"), ("key", "x/values", "[{}]"), ("kind", "0/values", "[3]")):
        path = _folder("shard") / f"damaged_{name}.safetensors"
        write_tensors(path, {key: torch.ones(1)}, {"clips": clips})
    with tarfile.open(CORPUS / "tar" / "seed.tar") as tar:
        whole = {member.name: cast(IO[bytes], tar.extractfile(member)).read() for member in tar}
    for name, content in whole.items():
        pieces = {**whole, name: content[: len(content) // 2]}
        write_tar(_folder("tar") / f"damaged_{name.removeprefix('a.')}.tar", pieces.items())


def _tar_of_one_clip() -> None:
    arrays, flac = io.BytesIO(), io.BytesIO()
    shapes = {"landmarks": (3, 68, 2), "pose": (3, 6), "values": (3, 16), "squares": (3, 3)}
    labels: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    np.savez_compressed(arrays, **labels)
    write_flac(flac, np.zeros(1920, np.int16))
    told = {"key": "a", "frames": 3, "identity": "anna", "language": "de", "licence": "CC0", "numbers": {}}
    pieces = {"mp4": _video("mp4", "libx264"), "flac": flac.getvalue(), "npz": arrays.getvalue()}
    pieces["json"] = json.dumps(told).encode()
    write_tar(_folder("tar") / "seed.tar", [(f"a.{kind}", content) for kind, content in pieces.items()])


def _tables() -> None:
    row = {"file": "a.mp4", "identity": "anna", "language": "de", "consent": "yes", "licence": "CC0"}
    (_folder("manifest") / "seed.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    (_folder("manifest") / "seed.jsonl").write_text(json.dumps(row) + "\n")
    jobs = [
        {"portrait": "anna.png", "audio": "a.wav", "output": "x/a.mp4", "seed": 3, "box": [1, 2, 3, 4]},
        {"audio": "b.wav", "lora": ["a.safetensors:0.5"], "crop": True, "fps": None},
    ]
    (_folder("jobs") / "seed.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))


def _video_with_a_late_frame() -> None:
    """Its last frame is to be shown for a day before the next."""
    (_folder("raw_video")).joinpath("late.mp4").write_bytes(_video("mp4", "libx264", [0, 1, 25 * 86_400]))


def _videos_with_a_note() -> None:
    for name in ("note", "signed"):
        path = _folder("video_info") / f"{name}.mp4"
        with VideoWriter(path, 32, 32, 25) as writer:
            writer.write(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    with tempfile.TemporaryDirectory() as folder:
        sign_video(CORPUS / "video_info" / "signed.mp4", *signer(Path(folder)))


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
    encoder = {"image_encoder": build_image_encoder(small_config()).state_dict()}
    save_checkpoint(_folder("weights") / "seed.safetensors", encoder, small_config(), dtype=torch.float16)
    pair = {"unet.a.lora_A.weight": ones(2, 3), "unet.a.lora_B.weight": ones(4, 2)}
    info = AdapterInfo("tiny", "x", 2.0, "anna")
    write_tensors(_folder("adapter") / "seed.safetensors", pair, adapter_metadata(info))
    bad = AdapterInfo("tiny", "x", float("nan"), "anna")
    write_tensors(CORPUS / "adapter" / "damaged_alpha.safetensors", pair, adapter_metadata(bad))
    clips = [(np.zeros(64, np.int16), np.ones((2, 16), np.float32), {"identity": name, "fps": 25}) for name in "ab"]
    write_spoken_shard(_folder("shard") / "seed.safetensors", clips)
    _run_of_two_clips()
    _tar_of_one_clip()
    _damaged_shards()
    _tables()
    _video_with_a_late_frame()
    _videos_with_a_note()


if __name__ == "__main__":
    main()
