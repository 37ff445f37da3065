"""``generate``: a portrait and a voice to a video."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FaceNotFoundError, FaceTooSmallError, MCDMError, failures_told
from ..files import check_destination
from ..pipeline.defaults import sampling_defaults
from ..samples import default_portrait, default_voice
from . import arguments
from .archived_pictures import archived_pictures
from .generate_many import run_manifest
from .interruption import exit_status, hold_interrupts
from .peak_memory import peak_memory

if TYPE_CHECKING:
    import torch

    from ..media.audio_reader import AudioReader
    from ..pipeline import MCDMPipeline, Reference
    from ..pipeline.run.run_folder import RunFolder
    from ..pipeline.run.threads import Threads


_SETTINGS = (
    "seed",
    "steps",
    "guidance",
    "motion_steps",
    "motion_guidance",
    "temperature",
    "no_blinks",
    "blink_rate",
    "box",
    "detail",
    "crop",
    "max_size",
    "fps",
    "allow_silent",
    "mark",
)
"""Options that change what the video shows."""
_LESS_MEMORY = "Close other programs, or lower --max-size; on a GPU, --device cpu needs none of its memory."


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    tiny = sampling_defaults("tiny")
    parser = commands.add_parser(
        "generate",
        help="make a talking-face video",
        description="Make a talking-face video. Without arguments, the pack's sample portrait and voice are used. "
        "Ctrl-C leaves a playable file of what is done, NAME.part.mp4, and the same command goes on from there.",
    )
    parser.add_argument("--portrait", type=Path, help="picture with a face (default: the sample person)")
    parser.add_argument("--audio", type=Path, help="any file with sound FFmpeg reads (default: the sample voice)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/talking.mp4"),
        metavar="FILE",
        help="mp4 to write (default: %(default)s)",
    )
    parser.add_argument("--preset", default="tiny", help="model preset (default: tiny)")
    parser.add_argument(
        "--weights", type=Path, help="weight file or training folder, instead of the preset's shipped one"
    )
    arguments.add_adapters(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="in which the networks of the pictures multiply; auto: bfloat16 on processors that are measured to do it "
        "faster, else float32 (default: auto)",
    )
    arguments.add_compile(parser)
    parser.add_argument("--seed", type=int, default=0, help="same seed and inputs, same video (default: 0)")
    parser.add_argument("--steps", type=arguments.count, help=f"denoising steps of the pictures (tiny: {tiny.steps})")
    parser.add_argument(
        "--guidance",
        type=arguments.number,
        help=f"guidance of the pictures by the motion, 1 switches it off (tiny: {tiny.guidance:g})",
    )
    parser.add_argument(
        "--motion-steps", type=arguments.count, help=f"denoising steps of the motion (tiny: {tiny.motion_steps})"
    )
    parser.add_argument(
        "--motion-guidance",
        type=arguments.number,
        help=f"guidance of the motion by the sound, 1 switches it off (tiny: {tiny.motion_guidance:g})",
    )
    parser.add_argument(
        "--temperature", type=arguments.number, help="liveliness of the motion: 0 most typical, 1 people's (default: 1)"
    )
    parser.add_argument("--driver", type=Path, help="video whose head movement is taken over")
    parser.add_argument(
        "--archive",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="further pictures of the person, or videos: teeth, tongue and shut lids are then theirs, and not invented",
    )
    parser.add_argument("--no-blinks", action="store_true", help="leave the model's own blinks as they come")
    parser.add_argument("--blink-rate", type=arguments.number, help="blinks a minute (default: 17)")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="the face in pixels of the portrait, roughly; found by itself otherwise",
    )
    parser.add_argument("--detail", choices=("warp", "none"), default="warp", help="take fine detail from the portrait")
    parser.add_argument("--crop", action="store_true", help="write the face crop alone instead of the whole portrait")
    parser.add_argument(
        "--max-size",
        type=arguments.size,
        default=1024,
        metavar="PIXELS",
        help="longest side of the video, 0: the portrait's own (default: 1024)",
    )
    arguments.add_mark(parser)
    parser.add_argument("--fps", type=arguments.rate, help="frames a second (default: the model's)")
    parser.add_argument("--allow-silent", action="store_true", help="accept sound that is silent throughout")
    parser.add_argument(
        "--memory-in", type=Path, help="continue with the person and motion of a saved memory; the sound begins anew"
    )
    parser.add_argument("--memory-out", type=Path, help="save the motion memory after the video, to continue from")
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="go on where the same command was stopped, or begin anew (default: auto)",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="make many videos: JSON lines of these options, "
        "one a video; --output is then their folder, and what is there is not made again",
    )
    parser.add_argument(
        "--workers", type=arguments.count, default=1, help="videos of a manifest at a time (default: 1)"
    )
    parser.add_argument(
        "--engine",
        choices=("processes", "ray"),
        default="processes",
        help="how a manifest is worked off: processes of this machine, or a Ray cluster (default: processes)",
    )
    parser.set_defaults(run=run)


def _check_places(options: argparse.Namespace) -> None:
    """Refuse what would only fail after the models were loaded: the outputs' places and the device.

    Raises:
        MediaError, MCDMError: if an output cannot be written or is an input as well, or the device is not there.
    """
    import torch

    inputs = [options.portrait or default_portrait(), options.audio or default_voice(), options.driver, options.weights]
    inputs += options.archive
    if options.archive and options.memory_in is not None:
        raise MCDMError("--memory-in has an archive of its own: leave --archive out, or begin without a memory.")
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
        MCDMError: for inputs that cannot be used, see the messages; OutOfMemoryError: if memory does not suffice.
    """
    if options.manifest is not None:
        return run_manifest(options, _generate_of_arguments)
    _check_places(options)
    with failures_told(_LESS_MEMORY):
        return _prepare_and_generate(options)


def _generate_of_arguments(own: Sequence[str], common: argparse.Namespace) -> int:
    """One video of a manifest: its own arguments go before the options of all."""
    commands = argparse.ArgumentParser().add_subparsers()
    add_parser(commands)
    return run(commands.choices["generate"].parse_args(list(own), common))


_load_pipeline = functools.lru_cache(maxsize=1)(arguments.load_pipeline)
"""Loaded once for all videos that a process makes with the same weights."""


def _prepare_and_generate(options: argparse.Namespace) -> int:
    from ..media.audio_reader import AudioReader
    from ..media.portrait import load_portrait, picture_size
    from ..pipeline.memory import MotionMemory
    from ..pipeline.run.gpu import prepare
    from ..pipeline.run.threads import Threads

    threads = Threads(fixed=os.getenv("OMP_NUM_THREADS") is not None)
    audio = AudioReader(options.audio or default_voice())
    picture = options.portrait or default_portrait()
    portrait = load_portrait(picture, None if options.crop else options.max_size)
    scale = max(portrait.shape[-2:]) / max(picture_size(picture))
    box = None if options.box is None else [value * scale for value in options.box]
    pipe = _load_pipeline(options.weights, options.preset, options.device, tuple(options.lora))
    memory = MotionMemory.load(options.memory_in, pipe.fingerprint) if options.memory_in else None
    # The inputs are read for it once, whatever the number of formats it is asked for.
    key = functools.cache(functools.partial(_run_key, options, pipe))
    pipe.model.picture_format = numbers = _format(options, key)
    pipe.clips.network = prepare(pipe.model, options.compile)
    with threads:
        threads.begin()
        try:
            reference = pipe.encode_reference(portrait, box=box)
        except (FaceTooSmallError, FaceNotFoundError) as error:
            if scale == 1.0:
                raise
            hint = f"It was shrunk to {scale:.0%} of its size for the video: a larger --max-size (0: none) may help."
            raise type(error)(f"{error} {hint}") from error
        if options.archive:
            seen = archived_pictures(pipe, options.archive)
            memory = pipe.start_memory(reference, options.seed, seen)
        for finding in pipe.check_portrait(portrait, box, reference):
            # Several faces are told of when the reference is made, with their boxes.
            if finding.kind != "several faces":
                print(f"portrait: {finding}", file=sys.stderr)
        return _generate(options, pipe, reference, audio, memory, key(numbers), threads)


def _generate(
    options: argparse.Namespace,
    pipe: MCDMPipeline,
    reference: Reference,
    audio: AudioReader,
    memory: Any,
    key: str,
    threads: Threads,
) -> int:
    from ..media.streamed_voice import stream_mono
    from ..pipeline.run.resumable_video import ResumableVideo

    rate = pipe.config.audio_encoder.sample_rate
    # A long voice is kept beside the video: the system's folder for temporary files may lie in memory.
    beside = next(folder for folder in options.output.absolute().parents if folder.is_dir())
    voice = stream_mono(audio, allow_silent=options.allow_silent, target_rate=rate, folder=beside)
    embedding = pipe.audio.embed_stored(voice, options.fps)
    landmarks = _driver_landmarks(options, pipe, reference, embedding)
    with ResumableVideo(options.output, key, resume=options.resume == "auto") as video:
        run, total, fps = video.run, embedding.num_frames, embedding.fps
        if run.taken:
            print(f"going on after {run.frames} of {total} frames that are there already", file=sys.stderr)
        for other in video.others():
            print(f"clips of another unfinished video of this name are in {other}", file=sys.stderr)
        taken, started = run.frames, time.monotonic()

        def safe() -> str:
            return f"{run.frames} frames are safe in {run.path}; the same command goes on from there."

        with failures_told(_LESS_MEMORY, lambda: safe() if run.frames else ""):
            status = _make_clips(options, pipe, reference, embedding, memory, landmarks, run, threads)
            if status and not run.frames:
                print("interrupted before the first clip was finished: there is no video", file=sys.stderr)
                return status
            done, place, replaced = run.frames, options.output, False
            after = run.memory(pipe.fingerprint)
            if status:
                place = video.keep(fps, audio)
            else:
                replaced = video.finish(fps, audio)
            if options.memory_out:  # never before the frames it goes on from
                after.save(options.memory_out)
    seconds = time.monotonic() - started
    height, width = pipe.output_size(reference, paste=not options.crop)
    state = "interrupted: " if status else ""
    hint = "; the same command goes on" if status else ", in place of an older one" if replaced else ""
    print(
        f"{state}{done} of {total} frames, {width}x{height} at {fps:g} fps, to {place}{hint}; "
        f"{(done - taken) / max(seconds, 1e-9):.1f} frames a second, peak memory {peak_memory(pipe.device.type)}",
        file=sys.stderr if status else sys.stdout,
    )
    return status


def _driver_landmarks(options: argparse.Namespace, pipe: MCDMPipeline, reference: Reference, embedding: Any) -> Any:
    from ..media.video_reader import VideoReader
    from ..pipeline.driver import driver_landmarks

    if options.driver is None:
        return None
    frames = VideoReader(options.driver).at_rate(embedding.fps)
    return driver_landmarks(pipe, reference, frames, embedding.num_frames)


def _format(options: argparse.Namespace, key: Callable[[torch.dtype], str]) -> torch.dtype:
    """The number format of the pictures: as the video was begun in, else as it is chosen."""
    from ..pipeline.run.number_format import format_to_go_on, picture_format
    from ..pipeline.run.resumable_video import ResumableVideo

    chosen = picture_format(options.dtype, options.device)
    if options.dtype != "auto" or options.resume != "auto":
        return chosen
    return format_to_go_on(chosen, lambda other: ResumableVideo.begun(options.output, key(other)))


def _run_key(options: argparse.Namespace, pipe: MCDMPipeline, numbers: torch.dtype) -> str:
    """Hash of everything that determines the video: the files' contents, the weights, the settings."""
    from ..pipeline.run.run_key import run_key

    files = [options.portrait or default_portrait(), options.audio or default_voice(), options.driver, *options.archive]
    settings = {name: getattr(options, name) for name in _SETTINGS}
    if options.compile == "blocks":  # their frames differ in the last bit
        settings["compile"] = options.compile
    defaults = sampling_defaults(pipe.config.preset)
    return run_key(
        pipe.fingerprint,
        pipe.device.type,
        str(numbers),
        *files,
        options.memory_in,
        settings,
        defaults,
    )


def _make_clips(
    options: argparse.Namespace,
    pipe: MCDMPipeline,
    reference: Reference,
    embedding: Any,
    memory: Any,
    landmarks: Any,
    run: RunFolder,
    threads: Threads,
) -> int:
    """Make the clips that are not there yet; returns the exit status, which is not 0 after an interruption."""
    from tqdm import tqdm

    from ..motion.blinks import BLINK_RATE

    total, size = embedding.num_frames, pipe.config.clip_frames
    if run.frames >= total:
        return 0
    if run.frames:
        memory = run.memory(pipe.fingerprint)
    paste, clips = not options.crop, -(-total // size)
    mark = arguments.mark_of(options, pipe.output_size(reference, paste=paste))
    began = time.monotonic()
    with tqdm(total=total, initial=run.frames, unit="frame", disable=None) as bar:
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
                blink_rate=BLINK_RATE if options.blink_rate is None else options.blink_rate,
                start_frame=run.frames,
            ):
                # A stop waits for the clip that is being written, so that its work is not lost.
                with hold_interrupts():
                    frames = pipe.finish_frames(reference, clip, detail=options.detail, paste=paste, in_bytes=True)
                    run.add(map(mark, frames), embedding.fps, None, {}, clip.memory, clip.motion)
                bar.set_description(f"clip {len(run.clips)}/{clips}")
                bar.update(len(clip.frames))
                threads.clip_done(len(clip.frames), time.monotonic() - began)
                began = time.monotonic()
        except KeyboardInterrupt as stop:
            return exit_status(stop)
    return 0
