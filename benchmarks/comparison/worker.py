"""One checkout's parts, timed on request. Run as a file with ``PYTHONPATH`` naming the checkout; only what every
checkout since version 0.1 has is asked of the library.

The first argument is JSON: portrait, voice, weights, number format, threads, steps. A line of the standard input is
JSON: part and longer side of the video. The answer is a line of JSON: how many frames were made, in how many seconds of
the clock and of the processor.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Work:
    """The parts of a video at one size, each as a call that tells how many frames (or pictures) it made."""

    def __init__(self, pipe: Any, given: dict[str, Any], size: int) -> None:
        from mcdm_core.media.audio import load_audio
        from mcdm_core.media.portrait import load_portrait
        from mcdm_core.media.video_writer import VideoWriter

        self.pipe, self.given, self.picture = pipe, given, Path(given["portrait"])
        portrait = load_portrait(self.picture)
        scale = size / max(portrait.shape[-2:])
        shape = [round(side * scale) for side in portrait.shape[-2:]]
        resized = torch.nn.functional.interpolate(portrait[None], size=shape, mode="bicubic", antialias=True)
        self.portrait = resized[0].clamp(0, 1)
        self.voice = load_audio(given["voice"])
        self.reference = pipe.encode_reference(self.portrait, given.get("box"))
        self.sound = pipe.embed_audio(self.voice.waveform, self.voice.sample_rate)
        count = pipe.config.clip_frames
        self.steps = {} if given["steps"] is None else {"steps": given["steps"]}
        begin, self.next = (
            dataclasses.replace(self.sound, tokens=self.sound.tokens[first : first + count], num_frames=count)
            for first in (0, count)
        )
        memory = pipe.start_memory(self.reference, 0)
        _, self.memory = pipe.sample_clip(
            self.reference, pipe.predict_motion(self.reference, begin), memory, **self.steps
        )
        self.motion = pipe.predict_motion(self.reference, self.next, self.memory)
        self.clip, _ = pipe.sample_clip(self.reference, self.motion, self.memory, **self.steps)
        in_bytes = "in_bytes" in inspect.signature(pipe.finish_frames).parameters
        self.how = {"in_bytes": True} if in_bytes else {}
        self.frames = list(pipe.finish_frames(self.reference, self.clip, **self.how))
        height, width = pipe.output_size(self.reference)
        self.folder = tempfile.TemporaryDirectory()
        self.writer = VideoWriter(Path(self.folder.name) / "part.mp4", width, height, self.sound.fps)

    def read(self) -> int:
        """The picture's file."""
        from mcdm_core.media.portrait import load_portrait

        load_portrait(self.picture)
        return 1

    def face(self) -> int:
        """The face in the picture, and its latents."""
        self.pipe.encode_reference(self.portrait, self.given.get("box"))
        return 1

    def audio(self) -> int:
        """Tokens of the voice."""
        return self.pipe.embed_audio(self.voice.waveform, self.voice.sample_rate).num_frames

    def motion_of_clip(self) -> int:
        """A clip's motion."""
        self.pipe.predict_motion(self.reference, self.next, self.memory)
        return len(self.frames)

    def pictures(self) -> int:
        """A clip's pictures: guide, denoising, decoding, archive."""
        self.pipe.sample_clip(self.reference, self.motion, self.memory, **self.steps)
        return len(self.frames)

    def finish(self) -> int:
        """Its frames at the portrait's resolution."""
        return len(list(self.pipe.finish_frames(self.reference, self.clip, **self.how)))

    def encode(self) -> int:
        """They as h264."""
        for frame in self.frames:
            self.writer.write(frame)
        return len(self.frames)

    def parts(self) -> dict[str, Callable[[], int]]:
        """The calls by name."""
        return {
            "read": self.read,
            "face": self.face,
            "audio": self.audio,
            "motion": self.motion_of_clip,
            "pictures": self.pictures,
            "finish": self.finish,
            "encode": self.encode,
        }


def main() -> None:
    """Answer until the input ends."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    from mcdm_core.pipeline import MCDMPipeline

    weights = given["weights"]
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    if hasattr(pipe.model, "picture_format"):
        pipe.model.picture_format = getattr(torch, given["dtype"])
    works: dict[int, dict[str, Callable[[], int]]] = {}
    for line in sys.stdin:
        part, size = json.loads(line)
        if size not in works:
            works.clear()  # one size's frames at a time
            works[size] = Work(pipe, given, size).parts()
        with torch.no_grad():
            began, worked = time.perf_counter(), time.process_time()
            frames = works[size][part]()
            made = {"frames": frames, "s": time.perf_counter() - began, "cpu_s": time.process_time() - worked}
        print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
