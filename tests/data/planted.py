"""Long videos with planted faults out of short clips of people who speak, and what a curation made of them.

``python -m tests.data.planted make CLIPS OTHERS VIDEOS`` joins clips of one person (and of others) into videos and
writes ``truth.json``. ``python -m tests.data.planted judge VIDEOS CURATED`` holds a curation of them against it.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Sound = NDArray[np.int16]
RATE, FPS = 16_000, 25
WIDTH, HEIGHT = 480, 360
LATE = 5
"""Frames by which the sound of ``shifted`` comes late."""
CLIPS = 10
"""Joined to one video, unless ``--clips`` says otherwise."""


def write(path: Path, frames: Frames, audio: Sound | None, crf: int = 16, times: list[int] | None = None) -> None:
    """A video of frames ``[t, h, w, 3]`` at 25 a second, or shown at ``times`` in ms."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000 if times else FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, 1000)
        track = None if audio is None else container.add_stream("aac", rate=RATE, layout="mono")
        for number, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            picture.pts, picture.time_base = times[number] if times else 40 * number, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        for start in range(0, 0 if audio is None else len(audio) - 1023, 1024):
            block = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(track.encode(block))
        if track is not None:
            container.mux(track.encode(None))


def turn_by_header(path: Path) -> None:
    """Write a quarter turn into the track's header, as phones do."""
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd") + 4 + 4 + 20 + 16
    one, zero, minus = (struct.pack(">i", value * 65536) for value in (1, 0, -1))
    assert content[place : place + 4] == one
    content[place : place + 36] = zero + one + zero + minus + zero * 4 + struct.pack(">i", 1 << 30)
    path.write_bytes(content)


def nobody(count: int, height: int, width: int, seed: int = 0) -> Frames:
    """Frames ``[t, h, w, 3]`` of a drifting texture without a face."""
    import cv2

    texture = cv2.GaussianBlur(
        np.random.default_rng(seed).random((height, width + count)).astype(np.float32), (0, 0), 6
    )
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    return np.stack([np.repeat(texture[:, k : k + width, None], 3, 2) for k in range(count)])


class Footage:
    """Clips of a folder, each used once, on pictures of one size."""

    def __init__(self, folder: Path) -> None:
        from mcdm_core.data.real.video import list_clips

        self._paths = iter(list_clips(folder, keep_apart=0)[0])

    def next(self, count: int) -> tuple[list[Frames], list[Sound]]:
        """Pictures and sound of the next clips."""
        from mcdm_core.data.real.video import read_clip

        clips = [read_clip(next(self._paths)) for _ in range(count)]
        pictures = [np.stack([_framed(frame) for frame in clip.frames]) for clip in clips]
        return pictures, [_as_long(clip.audio, len(clip.frames)) for clip in clips]


def _framed(picture: Frames) -> Frames:
    """The picture in the middle of a larger one, its border going on."""
    import cv2

    left, top = max(0, WIDTH - picture.shape[1]) // 2, max(0, HEIGHT - picture.shape[0]) // 2
    picture = picture[:HEIGHT, :WIDTH]
    right, bottom = WIDTH - picture.shape[1] - left, HEIGHT - picture.shape[0] - top
    return np.asarray(cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def _as_long(sound: Sound, frames: int) -> Sound:
    wanted = frames * RATE // FPS
    return np.pad(sound[:wanted], (0, max(0, wanted - len(sound))))


def make(clips: Path, others: Path, folder: Path, joined: int = CLIPS) -> None:
    """Write the videos and ``truth.json``: for each the parts as ``[begin, end, fault]`` in seconds; "" is good.

    ``joined`` clips make a video.
    """

    folder.mkdir(parents=True, exist_ok=True)
    own, strangers = Footage(clips), Footage(others)
    truth: dict[str, list[tuple[float, float, str]]] = {}

    def whole(name: str, frames: Frames, sound: Sound | None, fault: str, crf: int = 16, **more: list[int]) -> None:
        write(folder / f"{name}.mp4", frames, sound, crf, **more)
        truth[name] = [(0.0, len(frames) / FPS, fault)]

    def talk() -> tuple[Frames, Sound]:
        pictures, sound = own.next(joined)
        return np.concatenate(pictures), np.concatenate(sound)

    first = talk()
    whole("a_good", *first, "")
    whole("copy", *first, "duplicate", crf=24)

    # Two people in turn, and between them nobody, blurred and muted pictures: every part ends in a hard cut.
    mine, my_sound = own.next(10)
    theirs, their_sound = strangers.next(4)
    parts: list[tuple[Frames, Sound, str]] = []
    for number in range(4):
        parts.append((mine[number], my_sound[number], ""))
        parts.append((theirs[number], their_sound[number], ""))
    parts.append((nobody(75, HEIGHT, WIDTH), my_sound[4], "no face"))
    parts.append((mine[5], my_sound[5], ""))
    parts.append((_blurred(mine[6]), my_sound[6], "blurred"))
    parts.append((mine[7], my_sound[7], ""))
    parts.append((mine[8], np.zeros_like(my_sound[8]), "silent"))
    parts.append((mine[9], my_sound[9], ""))
    write(folder / "cuts.mp4", np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
    ends = np.cumsum([0, *(len(part[0]) for part in parts)]) / FPS
    truth["cuts"] = [(float(a), float(b), part[2]) for (a, b), part in zip(pairwise(ends), parts, strict=True)]

    (left, sound), (right, _) = talk(), talk()
    count = min(len(left), len(right))
    pair = np.concatenate([left[:count, :, 120:360], right[:count, :, 120:360]], axis=2)
    whole("two", pair, sound, "several faces")
    whole("nobody", nobody(joined * 75, HEIGHT, WIDTH, 1), talk()[1], "no face")
    frames, sound = talk()
    whole("muted", frames, np.zeros_like(sound), "silent")
    frames, sound = talk()
    late = LATE * RATE // FPS
    whole("shifted", frames, np.concatenate([np.zeros(late, np.int16), sound[:-late]]), "out of step")
    frames, sound = talk()
    whole("blurred", _blurred(frames), sound, "blurred")
    frames, sound = talk()
    whole("rotated", np.rot90(frames, 1, (1, 2)), sound, "")
    turn_by_header(folder / "rotated.mp4")
    frames, sound = talk()
    shown = [k for k in range(len(frames)) if k % 7 not in (2, 5)]
    write(folder / "variable.mp4", frames[shown], sound, times=[40 * k for k in shown])
    truth["variable"] = [(0.0, len(frames) / FPS, "")]
    (folder / "broken.mp4").write_bytes((folder / "a_good.mp4").read_bytes()[:200] + bytes(range(256)) * 80)
    truth["broken"] = [(0.0, 0.0, "unreadable")]
    (folder / "truth.json").write_text(json.dumps(truth))


def _blurred(frames: Frames) -> Frames:
    import cv2

    return np.stack([np.asarray(cv2.GaussianBlur(frame, (0, 0), 4), np.uint8) for frame in frames])


def judge(folder: Path, curated: Path) -> dict[str, float]:
    """Print, for each video, what was kept and why the rest was not; the sums in seconds."""
    import pyarrow.parquet

    rows = [
        r for name in ("index", "dropped") for r in pyarrow.parquet.read_table(curated / f"{name}.parquet").to_pylist()
    ]
    sums = {"good": 0.0, "good kept": 0.0, "bad": 0.0, "bad kept": 0.0, "bad, other reason": 0.0}
    for name, parts in json.loads((folder / "truth.json").read_text()).items():
        told: Counter[str] = Counter()
        for begin, end, fault in parts:
            sums["bad" if fault else "good"] += end - begin
            for row in rows:
                shared = min(end, row["end"]) - max(begin, row["begin"])
                if row["source"] != f"{name}.mp4" or (shared <= 0 and fault != "unreadable"):
                    continue
                shared = max(0.0, shared)
                told[f"{fault or 'good'} -> {row['fault'] or 'kept'}"] += round(shared, 2)
                if not row["fault"]:
                    sums["bad kept" if fault else "good kept"] += shared
                elif fault and row["fault"] != fault:
                    sums["bad, other reason"] += shared
        print(f"{name}: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in told.items()))
    print(", ".join(f"{what} {seconds:.1f} s" for what, seconds in sums.items()))
    return sums


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("make", "judge"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=CLIPS, help="joined to one video, with make")
    given = parser.parse_args()
    if given.action == "make":
        make(*given.folders, joined=given.clips)
    else:
        judge(*given.folders)
