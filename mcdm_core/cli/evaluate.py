"""``evaluate``: measure a generated video against its portrait and sound, or weights against their gates."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import MediaError
from . import arguments


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a video, or weights on people they do not know",
        description="With a video: read the face with the model's own face network, correlation of the lips with the "
        "sound and likeness to the portrait at the video's beginning and end. With --people: how well weights paint "
        "the mouths and eyes of people they were not trained on, with parts of the method switched off, and how their "
        "motion follows the sound and lives; each figure beside the laziest baselines and what is wanted. With "
        "--frechet or --syncnet: videos by networks that others published, which you have as ONNX files.",
    )
    parser.add_argument(
        "video",
        type=Path,
        nargs="?",
        help="made by generate without --crop; with --frechet or --syncnet a folder of such videos as well",
    )
    parser.add_argument("--portrait", type=Path, help="the picture the video was made from; needed with a video")
    parser.add_argument(
        "--people",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folders of shards of render-data or label-data that were kept from the training",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="with --people: folder for gates.json and contact sheets of mouths and eyes",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("painting", "motion"),
        default=("painting", "motion"),
        help="with --people: what is measured (default: both)",
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="folder of real videos, for --frechet and --syncnet"
    )
    parser.add_argument(
        "--frechet",
        type=_named_network,
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="distance of the videos to those of --against by an ONNX network of pictures or clips: Inception's for "
        "FID, I3D's for FVD; with :face after the file it sees faces alone, as for E-FID",
    )
    parser.add_argument(
        "--syncnet",
        type=Path,
        nargs=2,
        metavar=("LIPS", "VOICE"),
        help="Sync-D and Sync-C by SyncNet's two networks as ONNX files",
    )
    parser.add_argument("--limit", type=arguments.count, default=6, help="clips of each folder (default: 6)")
    parser.add_argument("--steps", type=arguments.count, help="denoising steps (default: the preset's)")
    parser.add_argument("--audio", type=Path, help="the sound (default: the video's own)")
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    arguments.add_adapters(parser)
    parser.add_argument("--box", type=float, nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="face, pixels")
    parser.add_argument(
        "--max-frames", type=arguments.count, default=1500, help="frames looked at for the identity (default: 1500)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the measurements; returns the exit status.

    Raises:
        MediaError: if what is to be measured is not given.
    """
    if options.people:
        return _gates(options)
    if options.frechet or options.syncnet:
        return _published(options)
    if options.video is None or options.portrait is None:
        raise MediaError("Nothing to measure: give a video and its --portrait, or --people and folders of shards.")
    return _video(options)


def _named_network(text: str) -> tuple[str, Path, bool]:
    """A figure's name, the ONNX file, and whether it is shown the face alone.

    >>> _named_network("efid=expression.onnx:face")[2]
    True
    """
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE, as in fid=inception.onnx")
    return name, Path(file.removesuffix(":face")), file.endswith(":face")


def _published(options: argparse.Namespace) -> int:
    from ..evaluation.published import compare, videos_of
    from ..published.network import OnnxNetwork

    if options.video is None or (options.frechet and options.against is None):
        raise MediaError("Give the made videos, and for --frechet the real ones with --against.")
    made, real = videos_of(options.video), [] if options.against is None else videos_of(options.against)
    networks = {name: (OnnxNetwork(file), face) for name, file, face in options.frechet}
    lips_and_voice = None
    if options.syncnet is not None:
        lips, voice = options.syncnet
        lips_and_voice = OnnxNetwork(lips), OnnxNetwork(voice)
    pipe = arguments.load_pipeline(options.weights)
    result = compare(made, real, networks, lips_and_voice, lambda frame: pipe.encode_reference(frame).transform)
    print(json.dumps({"videos": len(made), "real_videos": len(real), **result}, indent=2))
    return 0


def _gates(options: argparse.Namespace) -> int:
    from ..evaluation.gates import report, table

    pipe = arguments.load_pipeline(options.weights, adapters=options.lora)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    result = report(pipe, options.people, options.output, limit=options.limit, steps=options.steps, parts=options.parts)
    print(table(result))
    if options.output is not None:
        (options.output / "gates.json").write_text(json.dumps(result, indent=2))
    return 0


def _video(options: argparse.Namespace) -> int:
    import torch

    from ..evaluation.face_track import track_face
    from ..evaluation.identity import compare_identity
    from ..evaluation.lip_sync import lip_sync
    from ..face.crops import resample_crop
    from ..media.audio import load_audio, loudness, to_mono_16k
    from ..media.portrait import limit_size, load_portrait
    from ..media.video_reader import VideoReader

    pipe = arguments.load_pipeline(options.weights, adapters=options.lora)
    video = VideoReader(options.video)
    portrait = load_portrait(options.portrait)
    shape = (video.height - video.height % 2, video.width - video.width % 2)
    scaled = limit_size(portrait, max(video.height, video.width))
    if abs(scaled.shape[-2] - shape[0]) > 2 or abs(scaled.shape[-1] - shape[1]) > 2:
        raise MediaError(
            f"{options.video.name} is {video.width}x{video.height}, the portrait scaled to it is "
            f"{scaled.shape[-1]}x{scaled.shape[-2]}: expected a whole-portrait video of this picture."
        )
    reference = pipe.encode_reference(scaled, box=options.box)
    track = track_face(pipe.model.face_network, video, reference.transform)
    audio = load_audio(options.audio or options.video)
    mono = to_mono_16k(audio.waveform, audio.sample_rate)
    sync = lip_sync(track.lip_opening, loudness(mono, 16_000, video.fps, len(track.lip_opening)), video.fps)
    step = max(1, len(track.landmarks) // options.max_frames)
    crops = torch.stack(
        [resample_crop(f, reference.transform, reference.crop.shape[-1]) for i, f in enumerate(video) if i % step == 0]
    )
    identity = compare_identity(reference.crop, reference.landmarks.cpu(), crops, track.landmarks[::step])
    report = {
        "frames": len(track.lip_opening),
        "fps": video.fps,
        "lips_with_loudness": vars(sync),
        "identity": vars(identity),
        "lip_opening_spread": float(track.lip_opening.std()),
        "head_yaw_spread": float(track.pose[:, 0].std()),
    }
    print(json.dumps(report, indent=2))
    return 0
