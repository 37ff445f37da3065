"""What faults disturb: the command line and a node on a model of random weights, and a run folder that grows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from mcdm_core import files
from mcdm_core.__main__ import main
from mcdm_core.errors import MCDMError, is_out_of_memory
from mcdm_core.media.video_reader import VideoReader, read_video
from mcdm_core.models.motion_codec import MotionTokens
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.memory import MotionMemory
from mcdm_core.pipeline.run.run_folder import RunFolder
from tests.small_inputs import given, write_inputs

from .attempts import Ending, Tally, attempt, limit_memory

SECONDS = 2


class Setting:
    """The random model with a portrait and a voice on disk, and the video that no fault disturbed."""

    def __init__(self, folder: Path, pipe: MCDMPipeline, portrait: torch.Tensor) -> None:
        self.folder = folder
        noise = torch.rand(16_000 * SECONDS, generator=torch.Generator().manual_seed(0)) - 0.5
        self.options = write_inputs(folder, pipe, portrait, noise)
        ending = self.attempt(folder / "whole.mp4")
        assert ending.status == 0, ending.said
        self.worked = ending.worked
        self.frames = read_video(folder / "whole.mp4")[0]

    def command(self, output: Path) -> Callable[[], int]:
        """The command that makes the video."""
        arguments = ["generate", *given(self.folder), *self.options, "--output", str(output)]

        def work() -> int:
            torch.set_num_threads(1)  # a fork has none of its parent's threads
            return main(arguments)

        return work

    def attempt(self, output: Path, *, without_probe: bool = False, **fault: Any) -> Ending:
        """One attempt, with a fault; without the look for free space before the models load, if wished."""
        work = self.command(output)

        def unchecked() -> int:
            files._PROBE_BYTES = 0
            return work()

        return attempt(unchecked if without_probe else work, self.folder / "log.txt", **fault)

    def check(self, output: Path, tally: Tally) -> None:
        """The video is the undisturbed one, frame for frame, and nothing else is left."""
        frames = read_video(output)[0]
        tally.unplayable += not torch.equal(frames, self.frames)
        assert [path.name for path in output.parent.iterdir()] == [output.name]


def finished(output: Path) -> int:
    """Clips that the journal of an unfinished video lists."""
    return sum(listed(run) for run in output.with_suffix(".part").glob("*/"))


def grow(folder: Path, clips: int = 40, starve: tuple[int, int] | None = None) -> int:
    """The run of a node: clips of counted frames with motions and memories. The exit status tells of our own errors.

    Args:
        starve: a clip before which memory becomes short, and the bytes that are still to be had.
    """
    try:
        _grow(folder, clips, starve)
    except (MCDMError, MemoryError, RuntimeError, ImportError, OSError) as error:
        if not (isinstance(error, MCDMError) or is_out_of_memory(error)):  # what command line and nodes put into words
            raise
        print(f"error: {error}")
        return 1
    return 0


def grow_under(faults: Iterable[dict[str, Any]], work_folder: Path) -> Tally:
    """Runs of 40 clips grow, each attempt under the next fault; nothing may be lost.

    Args:
        faults: arguments of :func:`attempt`, or ``starve`` of :func:`grow`.
    """
    folder, tally = work_folder / "run", Tally()
    for fault in faults:
        before = listed(folder)
        outer = {name: value for name, value in fault.items() if name != "starve"}
        work = functools.partial(grow, folder, starve=fault.get("starve"))
        ending = attempt(work, work_folder / "log.txt", **outer)
        tally.note(ending)
        if "after" not in fault and ending.status not in (0, 1):
            tally.others.append(f"status {ending.status} under {fault}: {ending.said}")
        with RunFolder(folder) as run:
            tally.lost += max(0, before - len(run.clips))
            tally.unplayable += sum(len(list(VideoReader(run.clip_path(c.index)))) != 4 for c in run.clips[-2:])
            if len(run.clips) == 40:
                folder = work_folder / f"run{tally.tries}"
    assert grow(folder) == 0
    check_run(folder, 40)
    return tally


def _grow(folder: Path, clips: int, starve: tuple[int, int] | None) -> None:
    with RunFolder(folder) as run:
        while len(run.clips) < clips:
            index = len(run.clips)
            if starve and index >= starve[0]:
                limit_memory(starve[1])
                starve = None
            frames = torch.full((4, 3, 32, 32), (index % 50) / 50)
            tokens = MotionTokens(*(torch.full((4, 1, 2), float(index)) for _ in range(3)))
            state = [torch.full(shape, float(index)) for shape in ((1, 2, 2), (1, 2, 2, 1, 1), (1, 2, 2, 1))]
            memory = MotionMemory(state[0], state[1], state[2], frame_index=4 * (index + 1))
            run.add(frames, 25, None, {"lip_opening": [0.0] * 4}, memory, Motion(tokens, None, None, 25.0))


def listed(folder: Path) -> int:
    """Clips that the journal of a run lists."""
    journal = folder / "journal.jsonl"
    return max(0, len(journal.read_text().splitlines()) - 1) if journal.exists() else 0


def check_run(folder: Path, clips: int) -> None:
    """All clips, motions and the last memory are there and whole."""
    with RunFolder(folder) as run:
        assert len(run.clips) == clips and run.memory().frame_index == 4 * clips
        assert run.motion().tokens.lip[:, 0, 0].tolist() == [float(k // 4) for k in range(4 * clips)]
        for clip in run.clips:
            frames, _ = read_video(run.clip_path(clip.index))
            assert len(frames) == 4 and abs(float(frames.mean()) - (clip.index % 50) / 50) < 0.03
