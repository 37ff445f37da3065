"""``dub``: a new voice for an existing video."""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import failures_told
from ..files import check_destination, replace_finished
from . import arguments
from .interruption import exit_status, hold_interrupts

if TYPE_CHECKING:
    import torch

    from ..pipeline import MCDMPipeline

_LESS_MEMORY = "Close other programs, or make the video smaller; on a GPU, --device cpu needs none of its memory."


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "dub",
        help="speak a video's mouth anew",
        description="Give a video a new voice: frames, head and eyes stay, the mouth speaks the new sound. Stopped in "
        "the middle, the same command goes on after the last finished clip.",
    )
    parser.add_argument("--video", type=Path, required=True, help="the video of a speaking person")
    parser.add_argument("--audio", type=Path, required=True, help="the new voice; cut or filled up to the video")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/dubbed.mp4"),
        metavar="FILE",
        help="mp4 to write (default: %(default)s)",
    )
    parser.add_argument("--preset", default="tiny", help="model preset (default: tiny)")
    parser.add_argument("--weights", type=Path, help="weight file, instead of the preset's shipped one")
    arguments.add_adapters(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps ... (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="same seed and inputs, same video (default: 0)")
    parser.add_argument("--steps", type=arguments.count, help="denoising steps of the pictures")
    parser.add_argument(
        "--face",
        type=arguments.count,
        default=1,
        metavar="N",
        help="which of several faces, the largest first (default: 1)",
    )
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="the face in pixels where it is first seen, roughly",
    )
    arguments.add_mark(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Dub the video; returns the exit status.

    Raises:
        MCDMError (errors.py): for inputs that cannot be used, see the messages; OutOfMemoryError: if memory does not
            suffice. Clips that are finished are kept.
    """
    with failures_told(_LESS_MEMORY):
        return _dub(options)


def _dub(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..media.audio import load_audio
    from ..media.video_reader import VideoReader
    from ..pipeline.dubbing import CRF, dub, fitted_sound, prepare_dubbing
    from ..pipeline.memory import MotionMemory
    from ..pipeline.run.number_format import format_to_go_on, picture_format
    from ..pipeline.run.run_folder import JOURNAL, RunFolder

    check_destination(
        options.output, (".mp4",), [options.video, options.audio, options.weights, *(path for path, _ in options.lora)]
    )
    audio, video = load_audio(options.audio), VideoReader(options.video)
    pipe = arguments.load_pipeline(options.weights, options.preset, options.device, options.lora)
    place, numbers = _run_folder(options, pipe), picture_format("auto", options.device)
    numbers = format_to_go_on(numbers, lambda other: (place(other) / JOURNAL).is_file())
    pipe.model.picture_format = numbers
    dubbing = prepare_dubbing(
        pipe, lambda: video, video.fps, audio, box=options.box, number=options.face, seed=options.seed
    )
    sound = fitted_sound(audio, dubbing.frames / video.fps)
    folder = RunFolder(place(numbers), crf=CRF)
    memory = None
    if folder.clips:
        memory = MotionMemory.load(folder.memory_path(len(folder.clips)), pipe.fingerprint)
        print(f"{folder.frames} frames are taken over from {folder.path}", file=sys.stderr)
    begin, before, status = time.monotonic(), folder.frames, 0

    def safe() -> str:
        return f"{folder.frames} frames are safe in {folder.path}; the same command goes on from there."

    bar = tqdm(total=dubbing.frames, initial=before, unit="frame", disable=None)
    with bar, failures_told(_LESS_MEMORY, lambda: safe() if folder.clips else ""):
        try:
            mark = arguments.mark_of(options, (video.height, video.width))
            clips = dub(pipe, dubbing, video, memory=memory, start_frame=before, steps=options.steps)
            for clip in clips:
                with hold_interrupts():
                    folder.add(mark(clip.frames), video.fps, None, {}, clip.memory, clip.motion)
                    bar.update(len(clip.frames))
        except KeyboardInterrupt as stop:
            status = exit_status(stop)
    if status:
        print(f"interrupted: {folder.frames} frames are kept in {folder.path}; run again to go on", file=sys.stderr)
        return status
    made = folder.frames - before
    replace_finished(folder.join(video.fps, sound), options.output)
    shutil.rmtree(folder.path)
    lost = int((~dubbing.track.found).sum())
    print(
        f"{dubbing.frames} frames at {video.fps:g} fps to {options.output}"
        + (f", {lost} without the face left as they were" if lost else "")
        + f"; {made / max(time.monotonic() - begin, 1e-9):.1f} frames a second"
    )
    return 0


def _run_folder(options: argparse.Namespace, pipe: MCDMPipeline) -> Callable[[torch.dtype], Path]:
    """Where the clips gather, by the number format: named by everything that determines the video."""
    from ..pipeline.dubbing import CRF
    from ..pipeline.run.run_key import run_key

    settings = options.box, options.face, options.seed, options.steps, options.mark, CRF
    given = pipe.fingerprint, pipe.device.type, options.video, options.audio, *settings

    @functools.cache  # the files are read for it
    def place(numbers: torch.dtype) -> Path:
        return options.output.with_name(f"{options.output.stem}.dub_{run_key(*given, str(numbers))}")

    return place
