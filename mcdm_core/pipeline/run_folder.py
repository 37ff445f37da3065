"""A video that grows clip by clip on disk and survives a stop, a crash or a restart.

One folder a run, named after a hash of everything that determines the result: another seed or voice gets another
folder, so nothing is ever overwritten. A clip counts once ``state.json`` lists it; each write is made beside and moved
into place. Beside the clips lie their motions, and the motion memory after the last of them, from which the next run
goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..media.audio import Audio
from ..media.joining import join_clips
from ..media.video_writer import VideoWriter

if TYPE_CHECKING:
    from ..motion.motion import Motion

logger = logging.getLogger(__name__)

STATE = "state.json"
FORMAT = 2


def run_key(*parts: Any) -> str:
    """Hash (16 hex digits) of tensors, numbers, strings, dataclasses and nests of them."""
    digest = hashlib.sha256(f"mcdm run {FORMAT}".encode())
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:16]


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, torch.Tensor):
        array = part.detach().cpu().contiguous()
        digest.update(f"tensor {array.dtype} {list(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(part, dict):
        for key in sorted(part, key=str):
            digest.update(str(key).encode())
            _feed(digest, part[key])
    elif isinstance(part, list | tuple):
        digest.update(f"list {len(part)}".encode())
        for entry in part:
            _feed(digest, entry)
    elif hasattr(part, "__dataclass_fields__"):
        for name in part.__dataclass_fields__:
            digest.update(name.encode())
            _feed(digest, getattr(part, name))
    else:
        digest.update(repr(part).encode())


@dataclass(frozen=True)
class FinishedClip:
    """One entry of ``state.json``: where the clip lies and what the player draws for it."""

    index: int
    first_frame: int
    frames: int
    filename: str
    curves: dict[str, list[float]]


class RunFolder:
    """The clips of one run on disk.

    Args:
        path: the run's folder; made if missing.
        resume: take over finished clips of an earlier run with the same key; else they are made anew.
    """

    def __init__(self, path: Path, *, resume: bool = True) -> None:
        self.path = path
        self.path.mkdir(parents=True, exist_ok=True)
        self.clips: list[FinishedClip] = []
        if resume:
            self._read()

    def _read(self) -> None:
        """Take over clips up to the first that is missing; a damaged state counts as none."""
        try:
            state = json.loads((self.path / STATE).read_text(encoding="utf-8"))
            clips = [FinishedClip(**entry) for entry in state["clips"]]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("The state in %s cannot be read (%s); its clips are made anew.", self.path.name, error)
            return
        files = [file for clip in clips for file in (self.path / clip.filename, self.motion_path(clip.index))]
        whole = all(file.is_file() for file in files)
        if clips and whole and self.memory_path(len(clips)).is_file():
            self.clips = clips
            logger.info("MCDM takes over %d finished clips from %s.", len(clips), self.path.name)

    def memory_path(self, clips: int) -> Path:
        """Where the motion memory after ``clips`` clips lies."""
        return self.path / f"memory_{clips:05d}.safetensors"

    def motion_path(self, index: int) -> Path:
        """Where the motion of clip ``index`` lies."""
        return self.path / f"motion_{index:05d}.safetensors"

    def motion(self) -> Motion:
        """The motion of all finished clips, joined."""
        from ..motion.motion import Motion

        return Motion.cat([Motion.load(self.motion_path(clip.index)) for clip in self.clips])

    @property
    def frames(self) -> int:
        """Number of finished frames."""
        return sum(clip.frames for clip in self.clips)

    def clip_path(self, index: int) -> Path:
        """Where clip ``index`` lies or will lie."""
        return self.path / f"clip_{index:05d}.mp4"

    def add(
        self,
        frames: torch.Tensor,
        fps: float,
        audio: Audio | None,
        curves: dict[str, list[float]],
        memory: Any,
        motion: Any,
    ) -> FinishedClip:
        """Write the next clip, then its motion and the memory after it, then the state.

        Args:
            frames: [f, 3, h, w] in [0, 1].
            audio: this clip's own stretch of the sound.
            memory: after this clip; motion: of this clip. Both have ``save(path)``.
        """
        index = len(self.clips)
        target = self.clip_path(index)
        part = target.with_suffix(".part.mp4")
        with VideoWriter(part, frames.shape[-1], frames.shape[-2], fps, audio) as writer:
            writer.write(frames)
        os.replace(part, target)
        for state, path in ((motion, self.motion_path(index)), (memory, self.memory_path(index + 1))):
            part = path.with_suffix(".part.safetensors")
            state.save(str(part))
            os.replace(part, path)
        clip = FinishedClip(index, self.frames, frames.shape[0], target.name, curves)
        self.clips.append(clip)
        self._write()
        self.memory_path(index).unlink(missing_ok=True)
        return clip

    def _write(self) -> None:
        state = {"format": FORMAT, "clips": [vars(clip) for clip in self.clips]}
        part = self.path / (STATE + ".part")
        part.write_text(json.dumps(state), encoding="utf-8")
        os.replace(part, self.path / STATE)

    def join(
        self,
        fps: float,
        audio: Audio | None,
        between: Callable[[], None] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        """Join the clips into one mp4 with one sound track; packets are copied, not coded again.

        Args:
            between: called before each clip; may raise to stop.
            metadata: tags of the container beside those of the clips.
        """
        target = self.path / f"video_{self.frames:07d}.mp4"
        part = target.with_suffix(".part.mp4")
        join_clips([self.path / clip.filename for clip in self.clips], part, fps, audio, between, metadata)
        os.replace(part, target)
        return target
