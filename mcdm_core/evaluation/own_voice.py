"""People made to say their own sentence again: one frame of a clip as portrait, its sound as voice.

The lip opening of the generated frames is compared with that of the clip itself. The control is the same measured with
another clip's voice. Both are read by this project's own face network; synthetic shards also hold the true landmarks.
So the figures for real clips are no independent measurement.

    python -m mcdm_core.evaluation.own_voice --shards DIR | --clips DIR [--limit N] [--weights FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..correlation import correlation
from ..face.crops import resample_crop
from ..face.landmarks import lip_opening
from ..media.audio import load_audio
from ..media.video_reader import VideoReader
from ..pipeline import MCDMPipeline
from .face_track import track_face


@dataclass(frozen=True)
class TalkingClip:
    """Frames ``[t, 3, h, w]`` in [0, 1], sound ``[c, s]``, and the true lip opening ``[t]`` where it is known."""

    name: str
    frames: Tensor
    waveform: Tensor
    sample_rate: int
    opening: Tensor | None


def read_shards(folder: Path, limit: int) -> Iterator[TalkingClip]:
    """Clips of synthetic shards with their true lip opening."""
    from ..data.shards import ClipDataset

    dataset = ClipDataset(sorted(folder.glob("*.safetensors")))
    for index in range(min(limit, len(dataset))):
        clip = dataset[index]
        frames, sound, landmarks = (torch.as_tensor(clip[key]) for key in ("frames", "audio", "landmarks"))
        yield TalkingClip(
            str(index),
            rearrange(frames, "f h w c -> f c h w").float() / 255,
            sound.float()[None] / 32768,
            16_000,
            lip_opening(landmarks.float()),
        )


def read_videos(folder: Path, limit: int) -> Iterator[TalkingClip]:
    """Real talking clips of a folder, in the order of their names."""
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".mpg", ".mp4"))[:limit]:
        audio = load_audio(path)
        frames = torch.stack(list(VideoReader(path)))
        yield TalkingClip(path.name, frames, audio.waveform, audio.sample_rate, None)


@torch.inference_mode()
def speak_again(pipe: MCDMPipeline, clip: TalkingClip, voice: TalkingClip) -> tuple[Tensor, Tensor]:
    """Lip opening of generated frames and the clip's own, both ``[n]`` (the shorter of the two)."""
    reference = pipe.encode_reference(clip.frames[0])
    audio = pipe.embed_audio(voice.waveform, voice.sample_rate, fps=25)
    made = track_face(pipe.model.face_network, (f for c in pipe.generate(reference, audio, seed=0) for f in c.frames))
    truth = clip.opening
    if truth is None:
        crops = (resample_crop(frame, reference.transform, pipe.config.image_size) for frame in clip.frames)
        truth = track_face(pipe.model.face_network, crops).lip_opening
    count = min(len(truth), len(made.lip_opening))
    return made.lip_opening[:count], truth[:count]


def measure(pipe: MCDMPipeline, clips: list[TalkingClip]) -> dict[str, float]:
    """Mean and least correlation over the clips, and the mean with the next clip's voice."""
    own, wrong = [], []
    for index, clip in enumerate(clips):
        own.append(correlation(*speak_again(pipe, clip, clip)))
        wrong.append(correlation(*speak_again(pipe, clip, clips[(index + 1) % len(clips)])))
    mean = sum(own) / len(own)
    return {"clips": len(clips), "lip_r": mean, "least": min(own), "wrong_voice_r": sum(wrong) / len(wrong)}


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--shards", type=Path, help="folder of synthetic shards")
    source.add_argument("--clips", type=Path, help="folder of real talking clips")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    arguments = parser.parse_args()
    read = read_shards if arguments.shards else read_videos
    clips = list(read(arguments.shards or arguments.clips, arguments.limit))
    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    print(json.dumps(measure(pipe, clips), indent=2))


if __name__ == "__main__":
    main()
