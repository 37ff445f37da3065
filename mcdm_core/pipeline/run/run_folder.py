"""A video that grows clip by clip on disk and survives a stop, a crash, a full disk or a restart.

One folder a run, named after a hash of everything that determines the result (``run_key.py``). Another seed or voice
gets another folder, so nothing is ever overwritten. A clip is three files whose names follow from its index: its
pictures, its motion, and the motion memory after it. From that memory the next run goes on. Each is written beside and
moved into place when it is on the disk. Then a line is added to the journal, with the sizes and checksums of the three.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

from ...errors import MCDMError, unwritable
from ...file_lock import FileLock
from ...files import part_path, replace_finished
from ...media.audio import Audio
from ...media.audio_reader import AudioReader
from ...media.joining import join_clips
from ...media.video_writer import CRF, VideoWriter
from .finished_clip import FinishedClip, file_facts
from .run_key import FORMAT

if TYPE_CHECKING:
    from ...motion.motion import Motion
    from ..memory import MotionMemory

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
LOCK = "lock"
_MISSING = (0, 0)
_KEEP_EVERY, _SMALL = 32, 8 << 20
"""Beside the last two memories every 32nd is kept to fall back to, if it is no larger than 8 MiB."""


class RunFolder:
    """The clips of one run on disk. One process at a time has it, until :meth:`close` or the end of the process.

    Args:
        path: the run's folder; made if missing.
        resume: take over finished clips of an earlier run with the same key; else they are made anew.
        crf: quality of the clips, see :class:`VideoWriter`; clips of unlike quality cannot be joined.

    Attributes:
        clips: the finished ones; taken: how many of them an earlier run has made.

    Raises:
        MediaError: if another process has the run, or the folder cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = True, crf: int = CRF) -> None:
        self.path, self.crf = path, crf
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / LOCK, f"Another program is making the video in {path} at this moment.")
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.clips: list[FinishedClip] = self._whole_clips() if resume else []
        self.taken = len(self.clips)
        if self.taken:
            logger.info("MCDM takes over %d finished clips from %s.", self.taken, self.path.name)
        self._write_journal()
        self._remove_rest()

    # What lies where ------------------------------------------------------------------------------------------------

    def clip_path(self, index: int) -> Path:
        """Where clip ``index`` lies or will lie."""
        return self.path / f"clip_{index:05d}.mp4"

    def motion_path(self, index: int) -> Path:
        """Where the motion of clip ``index`` lies."""
        return self.path / f"motion_{index:05d}.safetensors"

    def memory_path(self, clips: int) -> Path:
        """Where the motion memory after ``clips`` clips lies."""
        return self.path / f"memory_{clips:05d}.safetensors"

    def motion(self) -> Motion:
        """The motion of all finished clips, joined."""
        from ...motion.motion import Motion

        return Motion.cat([Motion.load(self.motion_path(clip.index)) for clip in self.clips])

    def memory(self, fingerprint: str | None = None) -> MotionMemory:
        """The memory after the last finished clip, of which there must be one."""
        from ..memory import MotionMemory

        return MotionMemory.load(self.memory_path(len(self.clips)), fingerprint)

    @property
    def frames(self) -> int:
        """Number of finished frames."""
        return sum(clip.frames for clip in self.clips)

    # Taking over ----------------------------------------------------------------------------------------------------

    def _whole_clips(self) -> list[FinishedClip]:
        """The clips from which the run can go on: all before the first damaged one, up to one with its memory."""
        clips: list[FinishedClip] = []
        listed = self._listed()
        for index in range(len(listed) + sum(1 for _ in self.path.glob("clip_*.mp4"))):
            first = sum(clip.frames for clip in clips)
            clip = self._checked(listed[index]) if index < len(listed) else self._recovered(index, first)
            if clip is None:
                break
            clips.append(clip)
        whole = next((n for n in range(len(clips), 0, -1) if self._goes_on(clips[n - 1])), 0)
        if whole < max(len(listed), len(clips)):
            logger.warning(
                "Of %d clips in %s a file is missing or damaged; the run goes on after clip %d.",
                max(len(listed), len(clips)),
                self.path,
                whole,
            )
        return clips[:whole]

    def _listed(self) -> list[FinishedClip]:
        """What the journal lists, up to its first damaged line; the last one may have been cut off by a crash."""
        clips: list[FinishedClip] = []
        try:
            lines = (self.path / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
            header = json.loads(lines[0]) if lines else {}
            if header != {"format": FORMAT}:
                return []
            for line in lines[1:]:
                clip = FinishedClip.from_line(line)
                if (clip.index, clip.first_frame) != (len(clips), sum(clip.frames for clip in clips)):
                    raise ValueError("a line is missing")
                clips.append(clip)
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            logger.warning("The journal in %s is damaged after %d clips (%s).", self.path, len(clips), error)
        except OSError as error:
            raise unwritable(self.path, error) from error
        return clips

    def _remove_rest(self) -> None:
        """Delete clips that are not taken over, lest they be taken for finished ones after the next stop."""
        for kind, first in (("clip", self.taken), ("motion", self.taken), ("memory", self.taken + 1)):
            for path in self.path.glob(f"{kind}_*"):
                number = path.name.removeprefix(f"{kind}_").partition(".")[0]
                if number.isdecimal() and int(number) >= first:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _checked(self, clip: FinishedClip) -> FinishedClip | None:
        """A listed clip, if its pictures and motion are as they were written."""
        index = clip.index
        same = {"clip": self.clip_path(index), "motion": self.motion_path(index)}
        return clip if all(file_facts(path) == clip.files[name] for name, path in same.items()) else None

    def _recovered(self, index: int, first_frame: int) -> FinishedClip | None:
        """A clip that the journal does not list (any more), if its files can be read."""
        from ...media.video_reader import VideoReader
        from ...motion.motion import Motion
        from ..memory import MotionMemory

        try:
            frames = len(Motion.load(self.motion_path(index)))
            if sum(1 for _ in VideoReader(self.clip_path(index))) != frames:
                return None
        except MCDMError:
            return None
        files = self._facts_of(index)
        try:
            MotionMemory.load(self.memory_path(index + 1))
        except MCDMError:
            files["memory"] = _MISSING
        return FinishedClip(index, first_frame, frames, {}, files)

    def _goes_on(self, clip: FinishedClip) -> bool:
        """Whether the memory after this clip is as it was written."""
        return file_facts(self.memory_path(clip.index + 1)) == clip.files["memory"]

    def _facts_of(self, index: int) -> dict[str, tuple[int, int]]:
        paths = {"clip": self.clip_path(index), "motion": self.motion_path(index)}
        paths["memory"] = self.memory_path(index + 1)
        return {name: file_facts(path) or _MISSING for name, path in paths.items()}

    # Going on -------------------------------------------------------------------------------------------------------

    def add(
        self,
        frames: torch.Tensor | Iterable[torch.Tensor],
        fps: float,
        audio: Audio | AudioReader | None,
        curves: dict[str, list[float]],
        memory: Any,
        motion: Any,
    ) -> FinishedClip:
        """Write the next clip, then its motion and the memory after it, then its line in the journal.

        Args:
            frames: [f, 3, h, w] in [0, 1] or uint8, or parts of it one after the other.
            audio: this clip's own segment of the sound.
            memory: after this clip; motion: of this clip. Both have ``save(path)``.

        Raises:
            MediaError: if the disk is full; the clips before are safe.
        """
        index, first = len(self.clips), self.frames
        pieces = iter([frames] if isinstance(frames, torch.Tensor) else frames)
        piece = next(pieces)
        height, width = piece.shape[-2:]
        with VideoWriter(self.clip_path(index), width, height, fps, audio, crf=self.crf) as writer:
            writer.write(piece)
            for piece in pieces:
                writer.write(piece)
        motion.save(self.motion_path(index))
        memory.save(self.memory_path(index + 1))
        clip = FinishedClip(index, first, writer.frames_written, curves, self._facts_of(index))
        try:
            with open(self.path / JOURNAL, "a", encoding="utf-8") as journal:
                journal.write(clip.to_line())
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.clips.append(clip)
        self._forget(index - 1)
        return clip

    def _forget(self, clips: int) -> None:
        """Delete a memory that only a run with damaged files would need."""
        path = self.memory_path(clips)
        with contextlib.suppress(OSError):
            if clips % _KEEP_EVERY or path.stat().st_size > _SMALL:
                path.unlink(missing_ok=True)

    def _write_journal(self) -> None:
        """Write it anew, without what is not taken over."""
        path = self.path / JOURNAL
        lines = [json.dumps({"format": FORMAT}) + "\n", *(clip.to_line() for clip in self.clips)]
        try:
            part_path(path).write_text("".join(lines), encoding="utf-8")
            replace_finished(part_path(path), path)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def join(
        self,
        fps: float,
        audio: Audio | AudioReader | None,
        between: Callable[[], None] | None = None,
        metadata: dict[str, str] | None = None,
        target: Path | None = None,
    ) -> Path:
        """Join the clips into one mp4 with one sound track; packets are copied, not coded again.

        Args:
            between: called before each clip; may raise to stop.
            metadata: tags of the container beside those of the clips.
            target: of the mp4; in the run's folder by default.

        Raises:
            MediaError: if it cannot be written; the clips are safe.
        """
        import av
        import av.error

        target = target or self.path / f"video_{self.frames:07d}.mp4"
        part = part_path(target)
        try:
            join_clips([self.clip_path(clip.index) for clip in self.clips], part, fps, audio, between, metadata)
            replace_finished(part, target)
        except (OSError, av.error.FFmpegError) as error:
            told = unwritable(target, error)
            raise type(told)(f"{told} The clips are safe in {self.path}: run the same again.") from error
        return target

    def close(self) -> None:
        """Let another process have the run."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
