"""Dubbed videos: do the lips follow the new voice, and does everything else stay?

    python -m mcdm_core.evaluation.dubbing --clips DIR | --shards DIR [--limit N] [--output FOLDER] [--weights FILE]

Every clip gets the voice of the next one. mediapipe, which had no part in the making, reads the lips of the written
video. They are compared with the lips of the person whose voice it is (for shards with the true ones). Beside it stand
the lips of a third clip, whose voice was not used (the control). The clip as it was, undubbed, is the laziest way.
Rendered clips are written to a video file first, and that one is dubbed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..correlation import correlation
from ..errors import MCDMError
from ..face.lower_face import FEATHER, MARGIN, OUTLINE
from ..face.reading.face_mesh import FaceOpenings, mesh_points, openings
from ..face.reading.face_track import FaceTrack
from ..media.audio import Audio
from ..media.video_reader import VideoReader
from ..media.video_writer import VideoWriter
from ..pipeline import MCDMPipeline
from ..pipeline.dubbing import CRF, dub, fitted_sound, prepare_dubbing
from .own_voice import TalkingClip, read_shards, read_videos
from .torch_free.agreement import Series, mean_or_nan
from .torch_free.video_frames import Frame, video_frames

LEAST_SIDE = 384
"""Smaller videos are enlarged to this before mediapipe reads them."""
FPS = 25.0


@torch.inference_mode()
def write_dubbed(pipe: MCDMPipeline, clip: TalkingClip, voice: TalkingClip, path: Path) -> FaceTrack:
    """Write the video of a clip that speaks with the sound of ``voice``; returns the face that was followed."""
    frames = list(clip.frames)
    sound = fitted_sound(Audio(voice.waveform, voice.sample_rate), len(frames) / FPS)
    plan = prepare_dubbing(pipe, lambda: frames, FPS, sound)
    height, width = clip.frames.shape[-2:]
    with VideoWriter(path, width, height, FPS, sound, crf=CRF) as writer:
        for made in dub(pipe, plan, frames):
            writer.write(made.frames)
    return plan.track


def beyond_mouth(track: FaceTrack, height: int, width: int) -> Tensor:
    """Where a dubbed video has to stay as it was, [n, height, width] bool: all but a box about the lower face."""
    x, y, side = track.squares.unbind(-1)
    points = track.landmarks[:, OUTLINE] - 0.5
    points = points * side[:, None, None] + torch.stack([x, y], -1)[:, None]
    margin = (MARGIN + FEATHER) * side[:, None]
    low, high = points.amin(1) - margin, points.amax(1) + margin
    row, column = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    down = (row >= low[:, 1:]) & (row <= high[:, 1:])
    across = (column >= low[:, :1]) & (column <= high[:, :1])
    return ~(down[:, :, None] & across[:, None] & track.found[:, None, None])


def psnr_within(made: Iterable[Tensor], true: Iterable[Tensor], region: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of frames [3, h, w] in [0, 1] over a region [n, h, w]; inf if they are equal."""
    error, count = 0.0, 0
    for one, other, where in zip(made, true, region, strict=True):
        error += float(((one - other) ** 2)[:, where].sum())
        count += 3 * int(where.sum())
    return float("inf") if error == 0 else -10 * float(np.log10(error / count))


def read_lips(frames: Iterable[Frame]) -> FaceOpenings:
    """Openings of a video's frames by mediapipe."""
    return openings(mesh_points(frames))


def own_lips(clip: TalkingClip, folder: Path) -> Series:
    """Lip opening of a clip as it is: the truth where it is known, else as mediapipe reads it."""
    if clip.opening is not None:
        return clip.opening.numpy().astype(np.float64)
    return read_lips(video_frames(write_own(clip, folder), LEAST_SIDE)).lips


def write_own(clip: TalkingClip, folder: Path) -> Path:
    """Write a clip as it is, as finely as hardly any camera does."""
    height, width = clip.frames.shape[-2:]
    path = folder / f"{Path(clip.name).stem}.own.mp4"
    with VideoWriter(path, width, height, FPS, crf=5) as writer:
        writer.write(clip.frames)
    return path


def filmed(clip: TalkingClip, folder: Path) -> TalkingClip:
    """A rendered clip as its video file shows it: what people dub is a file, with half the colours' resolution."""
    frames = torch.stack(list(VideoReader(write_own(clip, folder))))
    return dataclasses.replace(clip, frames=frames[..., : clip.frames.shape[-2], : clip.frames.shape[-1]])


def measure(pipe: MCDMPipeline, clips: list[TalkingClip], folder: Path) -> list[dict[str, float | str]]:
    """Dub every clip with the next one's voice into ``folder`` and measure it.

    Returns:
        For each: ``lip_r`` with the new voice's lips, and ``wrong_voice_r`` with a third clip's. ``undubbed_r`` is that
        of the clip's own lips with the new voice's, ``outside_db`` that of the written file beyond the mouth.

    Raises:
        MCDMError: for fewer than three clips.
    """
    if len(clips) < 3:
        raise MCDMError(f"a clip, a voice and a control are three clips; there are {len(clips)}")
    folder.mkdir(parents=True, exist_ok=True)
    lips = [own_lips(clip, folder) for clip in clips]
    report: list[dict[str, float | str]] = []
    for index, clip in enumerate(clips):
        new, third = (index + 1) % len(clips), (index + 2) % len(clips)
        path = folder / f"{Path(clip.name).stem}.dubbed.mp4"
        track = write_dubbed(pipe, clip, clips[new], path)
        made = read_lips(video_frames(path, LEAST_SIDE)).lips
        region = beyond_mouth(track, *clip.frames.shape[-2:])
        report.append(
            {
                "name": clip.name,
                "lip_r": correlation(made, lips[new]),
                "wrong_voice_r": correlation(made, lips[third]),
                "undubbed_r": correlation(lips[index], lips[new]),
                "outside_db": psnr_within(VideoReader(path), clip.frames, region),
            }
        )
    return report


def main() -> None:
    """Print the measurements, a line a clip and the means, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mcdm_core.evaluation.dubbing", description=__doc__)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--shards", type=Path, help="folder of synthetic shards")
    given.add_argument("--clips", type=Path, help="folder of real talking clips of 25 frames a second")
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--output", type=Path, help="folder for the dubbed videos (default: none are kept)")
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    arguments = parser.parse_args()
    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    read = read_shards if arguments.shards else read_videos
    clips = list(read(arguments.shards or arguments.clips, arguments.limit))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        if arguments.shards:
            clips = [filmed(clip, folder) for clip in clips]
        report = measure(pipe, clips, folder)
    for line in report:
        print(json.dumps({name: round(v, 3) if isinstance(v, float) else v for name, v in line.items()}))
    names = [name for name in report[0] if name != "name"]
    print(json.dumps({name: round(mean_or_nan([float(line[name]) for line in report]), 4) for name in names}))


if __name__ == "__main__":
    main()
