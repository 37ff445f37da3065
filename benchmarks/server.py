"""The first finished frames in a process that has loaded the model, as a server has."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from mcdm_core.media.portrait import load_portrait
from mcdm_core.media.video_writer import VideoWriter

from .stages import Inputs


def first_in_a_server(inputs: Inputs, repeats: int) -> dict[str, Any]:
    """Seconds from portrait and voice to the first finished frame, and to the first clip as a file.

    The portrait is read, its face found, the voice heard, and a clip made and finished; only the weights are there.
    """
    pipe, rows = inputs.pipe, []
    for repeat in range(repeats + 1):
        began, worked = time.perf_counter(), time.process_time()
        load_portrait(inputs.picture)
        reference = pipe.encode_reference(inputs.portrait, inputs.box)
        sound = pipe.embed_audio(inputs.voice.waveform, inputs.voice.sample_rate)
        clip = next(iter(pipe.generate(reference, sound, seed=repeat)))
        frames = pipe.finish_frames(reference, clip, in_bytes=True)
        first = next(frames)
        to_frame = time.perf_counter() - began, time.process_time() - worked
        with tempfile.TemporaryDirectory() as folder:
            height, width = pipe.output_size(reference)
            with VideoWriter(Path(folder) / "first.mp4", width, height, sound.fps) as writer:
                writer.write(first)
                for frame in frames:
                    writer.write(frame)
        if repeat:
            rows.append((*to_frame, time.perf_counter() - began, time.process_time() - worked))
    frame_s, frame_cpu_s, clip_s, clip_cpu_s = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"server: first frame after {frame_s:.2f} s ({frame_cpu_s:.2f} s of the CPU), the first clip of "
        f"{pipe.config.clip_frames} frames in a file after {clip_s:.2f} s ({clip_cpu_s:.2f} s)",
        flush=True,
    )
    return {
        "stage": "server",
        "first_frame_s": frame_s,
        "first_frame_cpu_s": frame_cpu_s,
        "first_clip_s": clip_s,
        "first_clip_cpu_s": clip_cpu_s,
    }
