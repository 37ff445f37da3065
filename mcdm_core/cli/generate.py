"""``generate``: a portrait and a voice to a video."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MCDMError, MediaError
from ..samples import default_portrait, default_voice

if TYPE_CHECKING:
    from ..media.audio import Audio
    from ..pipeline import MCDMPipeline, Reference


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "generate",
        help="make a talking-face video",
        description="Make a talking-face video. Without arguments, the pack's sample portrait and voice are used. "
        "Ctrl-C leaves a playable file of what is done.",
    )
    parser.add_argument("--portrait", type=Path, help="picture with a face (default: the sample person)")
    parser.add_argument("--audio", type=Path, help="any file with sound FFmpeg reads (default: the sample voice)")
    parser.add_argument("--output", type=Path, default=Path("output/talking.mp4"), help="mp4 to write")
    parser.add_argument("--preset", default="tiny", help="model preset (default: tiny)")
    parser.add_argument("--weights", type=Path, help="weight file, instead of the preset's shipped one")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=_count, help="denoising steps of the pictures")
    parser.add_argument("--guidance", type=float, help="guidance of the pictures by the motion; 1 switches it off")
    parser.add_argument("--motion-steps", type=_count, help="denoising steps of the motion")
    parser.add_argument("--motion-guidance", type=float, help="guidance of the motion by the sound")
    parser.add_argument("--temperature", type=float, help="liveliness of the motion: 0 most typical, 1 as learned")
    parser.add_argument("--driver", type=Path, help="video whose head movement is taken over")
    parser.add_argument("--no-blinks", action="store_true", help="add no blinks to the model's motion")
    parser.add_argument("--box", type=float, nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="face, pixels")
    parser.add_argument("--detail", choices=("warp", "none"), default="warp", help="take fine detail from the portrait")
    parser.add_argument("--crop", action="store_true", help="write the face crop alone instead of the whole portrait")
    parser.add_argument("--max-size", type=int, default=1024, help="longest side of the video, 0: the portrait's own")
    parser.add_argument("--fps", type=_rate, help="frames a second (default: the model's)")
    parser.add_argument("--allow-silent", action="store_true", help="accept sound that is silent throughout")
    parser.add_argument("--memory-in", type=Path, help="continue from a saved motion memory")
    parser.add_argument("--memory-out", type=Path, help="save the motion memory after every clip")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    """A whole number from 1 on; argparse turns the error into its message."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _rate(text: str) -> float:
    """A frame rate above 0 and up to 120."""
    if not 0 < float(text) <= 120:
        raise ValueError(text)
    return float(text)


_count.__name__, _rate.__name__ = "number of steps (1 or more)", "frame rate (above 0, up to 120)"


def _check_places(arguments: argparse.Namespace) -> None:
    """Refuse what would only fail after the models were loaded: the output's name and the device.

    Raises:
        MediaError, MCDMError: if the output is a folder or no mp4, or the device is not there.
    """
    import torch

    output = arguments.output
    if output.is_dir() or output.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        raise MediaError(f"The video is written as mp4; {output} is no name for that. Give --output NAME.mp4.")
    try:
        torch.zeros(1, device=arguments.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MCDMError(f"The device {arguments.device!r} cannot be used here ({reason}). Try --device cpu.") from error


def run(arguments: argparse.Namespace) -> int:
    """Generate the video; returns the exit status."""
    _check_places(arguments)
    from ..media.audio import load_audio
    from ..media.portrait import limit_size, load_portrait
    from ..memory import MotionMemory
    from ..pipeline import MCDMPipeline

    audio = load_audio(arguments.audio or default_voice())
    portrait = load_portrait(arguments.portrait or default_portrait())
    scale = 1.0
    if not arguments.crop:
        longest = max(portrait.shape[-2:])
        portrait = limit_size(portrait, arguments.max_size)
        scale = max(portrait.shape[-2:]) / longest
    box = None if arguments.box is None else [value * scale for value in arguments.box]
    if arguments.weights:
        pipe = MCDMPipeline.from_file(arguments.weights, device=arguments.device)
    else:
        pipe = MCDMPipeline.from_preset(arguments.preset, device=arguments.device)
    memory = MotionMemory.load(arguments.memory_in, pipe.fingerprint) if arguments.memory_in else None
    reference = pipe.encode_reference(portrait, box=box)
    return _generate(arguments, pipe, reference, audio, memory)


def _generate(
    arguments: argparse.Namespace, pipe: MCDMPipeline, reference: Reference, audio: Audio, memory: Any
) -> int:
    from tqdm import tqdm

    from ..driver import driver_landmarks
    from ..media.video_reader import VideoReader
    from ..media.video_writer import VideoWriter

    embedding = pipe.embed_audio(
        audio.waveform, audio.sample_rate, fps=arguments.fps, allow_silent=arguments.allow_silent
    )
    total, size = embedding.num_frames, pipe.config.clip_frames
    clips = -(-total // size)
    landmarks = None
    if arguments.driver:
        driver = VideoReader(arguments.driver)
        landmarks = driver_landmarks(pipe, reference, driver, total, driver.fps, embedding.fps)
    height, width = pipe.output_size(reference, paste=not arguments.crop)
    started, done, status = time.monotonic(), 0, 0
    with (
        VideoWriter(arguments.output, width, height, embedding.fps, audio) as writer,
        tqdm(total=total, unit="frame", disable=None) as bar,
    ):
        try:
            for clip in pipe.generate(
                reference,
                embedding,
                memory,
                seed=arguments.seed,
                steps=arguments.steps,
                guidance=arguments.guidance,
                motion_steps=arguments.motion_steps,
                motion_guidance=arguments.motion_guidance,
                temperature=arguments.temperature,
                landmarks=landmarks,
                blinks=not arguments.no_blinks,
            ):
                for frames in pipe.finish_frames(
                    reference, clip, detail=arguments.detail, paste=not arguments.crop
                ):
                    writer.write(frames)
                done += len(clip.frames)
                bar.set_description(f"clip {-(-done // size)}/{clips}")
                bar.update(len(clip.frames))
                if arguments.memory_out:
                    clip.memory.save(arguments.memory_out)
        except KeyboardInterrupt:
            status = 130
    seconds = time.monotonic() - started
    state = "interrupted: " if status else ""
    print(
        f"{state}{done} of {total} frames, {width}x{height} at {embedding.fps:g} fps, to {arguments.output}; "
        f"{done / max(seconds, 1e-9):.1f} frames a second, peak memory {peak_memory(pipe.device.type)}",
        file=sys.stderr if status else sys.stdout,
    )
    return status


def peak_memory(device_type: str) -> str:
    """Largest memory this process has held, in readable words."""
    words = []
    try:
        import resource

        # Kilobytes on Linux, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        words.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:.0f} MiB")
    except ImportError:  # Windows has no such count
        words.append("unknown")
    if device_type == "cuda":
        import torch

        words.append(f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB on the GPU")
    return ", ".join(words)
