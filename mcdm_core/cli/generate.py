"""``generate``: a portrait and a voice to a video."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceNotFoundError, FaceTooSmallError, MCDMError, OutOfMemoryError
from ..files import check_destination, part_path
from ..pipeline.defaults import sampling_defaults
from ..samples import default_portrait, default_voice
from . import arguments
from .interruption import exit_status, hold_interrupts

if TYPE_CHECKING:
    from ..media.audio import Audio
    from ..pipeline import MCDMPipeline, Reference


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    tiny = sampling_defaults("tiny")
    parser = commands.add_parser(
        "generate",
        help="make a talking-face video",
        description="Make a talking-face video. Without arguments, the pack's sample portrait and voice are used. "
        "Ctrl-C leaves a playable file of what is done, NAME.part.mp4.",
    )
    parser.add_argument("--portrait", type=Path, help="picture with a face (default: the sample person)")
    parser.add_argument("--audio", type=Path, help="any file with sound FFmpeg reads (default: the sample voice)")
    parser.add_argument("--output", type=Path, default=Path("output/talking.mp4"), metavar="FILE",
                        help="mp4 to write (default: %(default)s)")  # fmt: skip
    parser.add_argument("--preset", default="tiny", help="model preset (default: tiny)")
    parser.add_argument("--weights", type=Path, help="weight file or training folder, instead of the preset's shipped "
                        "one")  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="same seed and inputs, same video (default: 0)")
    parser.add_argument("--steps", type=arguments.count, help=f"denoising steps of the pictures (tiny: {tiny.steps})")
    parser.add_argument("--guidance", type=arguments.number,
                        help="guidance of the pictures by the motion, 1 switches it off "
                        f"(tiny: {tiny.guidance:g})")  # fmt: skip
    parser.add_argument("--motion-steps", type=arguments.count,
                        help=f"denoising steps of the motion (tiny: {tiny.motion_steps})")  # fmt: skip
    parser.add_argument("--motion-guidance", type=arguments.number,
                        help="guidance of the motion by the sound, 1 switches it off "
                        f"(tiny: {tiny.motion_guidance:g})")  # fmt: skip
    parser.add_argument("--temperature", type=arguments.number,
                        help="liveliness of the motion: 0 most typical, 1 as learned "
                        f"(tiny: {tiny.temperature:g})")  # fmt: skip
    parser.add_argument("--driver", type=Path, help="video whose head movement is taken over")
    parser.add_argument("--no-blinks", action="store_true", help="add no blinks to the model's motion")
    parser.add_argument("--box", type=float, nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
                        help="the face in pixels of the portrait, roughly; found by itself otherwise")  # fmt: skip
    parser.add_argument("--detail", choices=("warp", "none"), default="warp", help="take fine detail from the portrait")
    parser.add_argument("--crop", action="store_true", help="write the face crop alone instead of the whole portrait")
    parser.add_argument("--max-size", type=arguments.size, default=1024, metavar="PIXELS",
                        help="longest side of the video, 0: the portrait's own (default: 1024)")  # fmt: skip
    parser.add_argument("--fps", type=arguments.rate, help="frames a second (default: the model's)")
    parser.add_argument("--allow-silent", action="store_true", help="accept sound that is silent throughout")
    parser.add_argument("--memory-in", type=Path, help="continue with the person and motion of a saved memory; "
                        "the sound begins anew")  # fmt: skip
    parser.add_argument("--memory-out", type=Path, help="save the motion memory after every clip, to continue from")
    parser.set_defaults(run=run)


def _check_places(options: argparse.Namespace) -> None:
    """Refuse what would only fail after the models were loaded: the outputs' places and the device.

    Raises:
        MediaError, MCDMError: if an output cannot be written or is an input as well, or the device is not there.
    """
    import torch

    inputs = [
        options.portrait or default_portrait(), options.audio or default_voice(), options.driver, options.weights
    ]  # fmt: skip
    check_destination(options.output, (".mp4", ".m4v", ".mov"), [*inputs, options.memory_in])
    if options.memory_out is not None:
        check_destination(options.memory_out, (".safetensors",), inputs)
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MCDMError(f"The device {options.device!r} cannot be used here ({reason}). Try --device cpu.") from error


def run(options: argparse.Namespace) -> int:
    """Generate the video; returns the exit status.

    Raises:
        MCDMError: for inputs that cannot be used, see the messages; OutOfMemoryError: if the GPU's memory is too small.
    """
    import torch

    _check_places(options)
    try:
        return _prepare_and_generate(options)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "The GPU has too little free memory for this. Close other programs, or use --device cpu."
        ) from error


def _prepare_and_generate(options: argparse.Namespace) -> int:
    from ..media.audio import load_audio
    from ..media.portrait import limit_size, load_portrait
    from ..pipeline import MCDMPipeline
    from ..pipeline.memory import MotionMemory

    audio = load_audio(options.audio or default_voice())
    portrait = load_portrait(options.portrait or default_portrait())
    scale = 1.0
    if not options.crop:
        longest = max(portrait.shape[-2:])
        portrait = limit_size(portrait, options.max_size)
        scale = max(portrait.shape[-2:]) / longest
    box = None if options.box is None else [value * scale for value in options.box]
    if options.weights:
        pipe = MCDMPipeline.from_file(options.weights, device=options.device)
    else:
        pipe = MCDMPipeline.from_preset(options.preset, device=options.device)
    memory = MotionMemory.load(options.memory_in, pipe.fingerprint) if options.memory_in else None
    try:
        reference = pipe.encode_reference(portrait, box=box)
    except (FaceTooSmallError, FaceNotFoundError) as error:
        if scale == 1.0:
            raise
        hint = f"It was shrunk to {scale:.0%} of its size for the video: a larger --max-size (0: none) may help."
        raise type(error)(f"{error} {hint}") from error
    for finding in pipe.check_portrait(portrait, box=box):
        # Several faces are told of when the reference is made, with their boxes.
        if finding.kind != "several faces":
            print(f"portrait: {finding}", file=sys.stderr)
    return _generate(options, pipe, reference, audio, memory)


def _generate(
    options: argparse.Namespace, pipe: MCDMPipeline, reference: Reference, audio: Audio, memory: Any
) -> int:
    from tqdm import tqdm

    from ..media.video_reader import VideoReader
    from ..media.video_writer import VideoWriter
    from ..pipeline.driver import driver_landmarks

    embedding = pipe.embed_audio(
        audio.waveform, audio.sample_rate, fps=options.fps, allow_silent=options.allow_silent
    )
    total, size = embedding.num_frames, pipe.config.clip_frames
    clips = -(-total // size)
    landmarks = None
    if options.driver:
        driver = VideoReader(options.driver)
        landmarks = driver_landmarks(pipe, reference, driver, total, driver.fps, embedding.fps)
    height, width = pipe.output_size(reference, paste=not options.crop)
    if options.output.exists():
        print(f"{options.output} is there already; it is replaced when the new video is finished", file=sys.stderr)
    started, done, status = time.monotonic(), 0, 0
    with (
        VideoWriter(options.output, width, height, embedding.fps, audio) as writer,
        tqdm(total=total, unit="frame", disable=None) as bar,
    ):
        try:
            for clip in pipe.generate(
                reference,
                embedding,
                memory,
                seed=options.seed,
                steps=options.steps,
                guidance=options.guidance,
                motion_steps=options.motion_steps,
                motion_guidance=options.motion_guidance,
                temperature=options.temperature,
                landmarks=landmarks,
                blinks=not options.no_blinks,
            ):
                # A clip is written whole, so that the video and the memory agree also after Ctrl-C.
                with hold_interrupts():
                    for frames in pipe.finish_frames(reference, clip, detail=options.detail, paste=not options.crop):
                        writer.write(frames)
                    done += len(clip.frames)
                    bar.set_description(f"clip {-(-done // size)}/{clips}")
                    bar.update(len(clip.frames))
                    if options.memory_out:
                        clip.memory.save(options.memory_out)
        except KeyboardInterrupt as stop:
            status = exit_status(stop)
            writer.close(finished=False)
    if not done:
        print("interrupted before the first clip was finished: there is no video", file=sys.stderr)
        return status
    seconds = time.monotonic() - started
    state = "interrupted: " if status else ""
    print(
        f"{state}{done} of {total} frames, {width}x{height} at {embedding.fps:g} fps, "
        f"to {part_path(options.output) if status else options.output}; "
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
