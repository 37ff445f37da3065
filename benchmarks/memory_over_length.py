"""Does memory grow with the video? Generates a long one and prints the resident memory after every minute of it.

    python -m benchmarks.memory_over_length --minutes 10 [--weights FILE] [--threads 1] [--crop]

The voice (default: the sample) is repeated to the length asked for. The aim: at the end of ten minutes
within 5 % of that after one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from mcdm_core.media.audio import Audio, load_audio
from mcdm_core.media.portrait import load_portrait
from mcdm_core.media.video_writer import VideoWriter
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait, default_voice


def resident_mib() -> float:
    """Resident memory of this process in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell the resident memory under /proc/self/status")


def lengthened(audio: Audio, seconds: float) -> Audio:
    """The sound repeated to ``seconds``."""
    count = round(seconds * audio.sample_rate)
    repeats = -(-count // audio.waveform.shape[-1])
    return Audio(audio.waveform.repeat(1, repeats)[:, :count], audio.sample_rate)


def main() -> None:
    """Generate, printing a row a minute of video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--portrait", type=Path)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--crop", action="store_true", help="write the face crop, without pasting it back")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    reference = pipe.encode_reference(load_portrait(arguments.portrait or default_portrait()))
    audio = lengthened(load_audio(arguments.audio or default_voice()), 60 * arguments.minutes)
    embedding = pipe.embed_audio(audio.waveform, audio.sample_rate)
    height, width = pipe.output_size(reference, paste=not arguments.crop)
    print("minute  resident MiB  state KiB  frames/s", flush=True)
    rows: list[float] = []
    done, began, per_minute = 0, time.monotonic(), round(60 * embedding.fps)
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(Path(folder) / "long.mp4", width, height, embedding.fps, audio) as writer,
    ):
        for clip in pipe.generate(reference, embedding, seed=0):
            detail = "none" if arguments.crop else "warp"
            for frames in pipe.finish_frames(reference, clip, detail=detail, paste=not arguments.crop):
                writer.write(frames)
            done += len(clip.frames)
            if done // per_minute > len(rows) or done == embedding.num_frames:
                rows.append(resident_mib())
                speed = done / (time.monotonic() - began)
                state = clip.memory.num_bytes / 1024
                print(f"{done / per_minute:6.2f}  {rows[-1]:12.1f}  {state:9.1f}  {speed:8.1f}", flush=True)
    print(f"end against the first minute: {100 * (rows[-1] / rows[0] - 1):+.2f} %")


if __name__ == "__main__":
    main()
