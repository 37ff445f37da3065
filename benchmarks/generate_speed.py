"""Frames a second of ``generate`` for a minute of video, part by part.

    python benchmarks/generate_speed.py [--seconds 60] [--weights FILE] [--threads 2] [--portrait FILE]

Nothing else may run beside it: a second job on the cores costs up to two thirds of the speed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from memory_over_length import lengthened

from mcdm_core.media.audio import load_audio
from mcdm_core.media.portrait import load_portrait
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait, default_voice


def main() -> None:
    """Generate and print a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--portrait", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    marks: dict[str, float] = {}
    last = time.monotonic()

    def mark(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        marks[name] = marks.get(name, 0.0) + now - last
        last = now

    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    mark("load the weights")
    reference = pipe.encode_reference(load_portrait(arguments.portrait or default_portrait()))
    mark("find and encode the face")
    audio = lengthened(load_audio(default_voice()), arguments.seconds)
    embedding = pipe.embed_audio(audio.waveform, audio.sample_rate)
    mark("encode the sound")
    height, width = pipe.output_size(reference)
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(Path(folder) / "speed.mp4", width, height, embedding.fps, audio) as writer,
    ):
        for clip in pipe.generate(reference, embedding, seed=0, steps=arguments.steps):
            mark("motion and pictures")
            for frames in pipe.finish_frames(reference, clip):
                mark("detail and pasting back")
                writer.write(frames)
                mark("write the video")
    total = sum(marks.values())
    for name, seconds in marks.items():
        print(f"{name:26} {seconds:8.2f} s  {1000 * seconds / embedding.num_frames:7.2f} ms a frame")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    frames = embedding.num_frames
    print(f"{frames} frames of {width}x{height} in {total:.1f} s: {frames / total:.1f} frames a second")
    print(f"{torch.get_num_threads()} threads, peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()
