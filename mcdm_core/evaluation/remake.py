"""Videos for the independent measurements: people made to say their own sentence again, and another's.

    python -m mcdm_core.evaluation.remake --clips DIR | --shards DIR --output FOLDER [--limit N] [--weights FILE]
        [--lora FILE]

Of every clip the first frame is the portrait. FOLDER receives ``NAME.own.mp4`` (its own sound as voice),
``NAME.wrong.mp4`` (the next clip's) and ``manifest.json``, which :mod:`mcdm_core.evaluation.independent` reads.
Clips of shards, which are no video files, are written there too, with their true lip opening in the manifest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..media.audio import Audio
from ..media.video_writer import VideoWriter
from ..pipeline import MCDMPipeline
from .own_voice import TalkingClip, read_shards, read_videos


@torch.inference_mode()
def write_speaking(pipe: MCDMPipeline, portrait: Tensor, voice: TalkingClip, path: Path) -> None:
    """Write the video of a portrait ``[3, h, w]`` in [0, 1] that speaks with the sound of ``voice``."""
    reference = pipe.encode_reference(portrait)
    sound = Audio(voice.waveform, voice.sample_rate)
    embedding = pipe.embed_audio(sound.waveform, sound.sample_rate, fps=25)
    height, width = pipe.output_size(reference, paste=True)
    with VideoWriter(path, width, height, 25, sound) as writer:
        for clip in pipe.generate(reference, embedding, seed=0):
            for frames in pipe.finish_frames(reference, clip, detail="warp", paste=True):
                writer.write(frames)


def write_clip(clip: TalkingClip, path: Path) -> None:
    """Write a shard's clip as a video, nearly without loss."""
    height, width = clip.frames.shape[-2:]
    with VideoWriter(path, width, height, 25, Audio(clip.waveform, clip.sample_rate), crf=5) as writer:
        writer.write(clip.frames)


def remake(pipe: MCDMPipeline, clips: list[TalkingClip], output: Path, source: Path | None) -> list[dict[str, Any]]:
    """Write the videos of all clips; returns the manifest.

    Args:
        source: folder of the clips' own video files; None writes the clips themselves too.
    """
    output.mkdir(parents=True, exist_ok=True)
    manifest: list[dict[str, Any]] = []
    for index, clip in enumerate(clips):
        name = Path(clip.name).stem
        entry: dict[str, Any] = {"name": name, "own": f"{name}.own.mp4", "wrong": f"{name}.wrong.mp4"}
        if source is None:
            entry["real"] = f"{name}.real.mp4"
            write_clip(clip, output / entry["real"])
        else:
            entry["real"] = str((source / clip.name).resolve())
        if clip.opening is not None:
            entry["truth"] = [round(value, 5) for value in clip.opening.tolist()]
        write_speaking(pipe, clip.frames[0], clip, output / entry["own"])
        write_speaking(pipe, clip.frames[0], clips[(index + 1) % len(clips)], output / entry["wrong"])
        manifest.append(entry)
    (output / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def main() -> None:
    """Write the videos and the manifest."""
    parser = argparse.ArgumentParser(prog="python -m mcdm_core.evaluation.remake", description=__doc__)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--shards", type=Path, help="folder of synthetic shards")
    given.add_argument("--clips", type=Path, help="folder of real talking clips")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    parser.add_argument("--lora", type=Path, help="adapter of the person in the clips")
    arguments = parser.parse_args()
    weights, adapters = arguments.weights, [(arguments.lora, 1.0)] if arguments.lora else []
    if weights:
        pipe = MCDMPipeline.from_file(weights, adapters=adapters)
    else:
        pipe = MCDMPipeline.from_preset("tiny", adapters=adapters)
    read = read_shards if arguments.shards else read_videos
    clips = list(read(arguments.shards or arguments.clips, arguments.limit))
    manifest = remake(pipe, clips, arguments.output, arguments.clips)
    print(f"{len(manifest)} clips to {arguments.output}")


if __name__ == "__main__":
    main()
