"""A video that takes its place when it is complete, and goes on where an earlier attempt was stopped."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import unwritable
from ...file_lock import FileLock
from ...files import part_path, replace_finished
from ...media.audio import Audio
from ...media.audio_reader import AudioReader
from .run_folder import JOURNAL, LOCK, RunFolder


class ResumableVideo:
    """Clips gather in ``NAME.part/KEY`` beside the video to make; use it as a context manager.

    Args:
        output: the mp4 to make.
        key: of everything that determines it (:func:`~.run_key.run_key`).
        resume: take over what an earlier attempt with the same key has made.

    Attributes:
        run: the clips.

    Raises:
        MediaError: if another process makes a video of that name, or the place cannot be written.
    """

    def __init__(self, output: Path, key: str, *, resume: bool = True) -> None:
        self.output = output
        self.folder = _folder(output)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(
                self.folder / LOCK,
                f"Another program is making {output} at this moment. Wait for it, or choose another name.",
            )
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            self.run = RunFolder(self.folder / key, resume=resume)
        except BaseException:
            self._lock.release()
            raise

    @staticmethod
    def begun(output: Path, key: str) -> bool:
        """Whether an earlier attempt at ``output`` with this key was stopped."""
        return (_folder(output) / key / JOURNAL).is_file()

    def others(self) -> list[Path]:
        """Clips of unfinished videos of the same name with other inputs or settings."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path != self.run.path)

    def finish(self, fps: float, audio: Audio | AudioReader | None, **join: Any) -> bool:
        """Join the clips, put the video into its place and delete them; says whether an older one was replaced.

        Raises:
            MediaError: if it cannot be written; the clips are kept.
        """
        replaced = self.output.exists()
        self.run.join(fps, audio, target=self.output, **join)
        self.run.close()
        self._remove(self.run.path)
        return replaced

    def keep(self, fps: float, audio: Audio | AudioReader | None) -> Path:
        """Join what there is under the name ``NAME.part.mp4``, and keep the clips to go on with.

        Raises:
            MediaError: if it cannot be written.
        """
        part = part_path(self.output)
        made = self.run.join(fps, audio, target=self.run.path / f"so_far{self.output.suffix}")
        try:
            replace_finished(made, part)
        except OSError as error:
            told = unwritable(part, error)
            raise type(told)(f"{told} The clips are safe in {self.run.path}.") from error
        return part

    def close(self) -> None:
        """Let another process have the name; a folder without clips is deleted."""
        empty = not self.run.clips
        self.run.close()
        if empty:
            self._remove(self.run.path)
        self._lock.release()
        with contextlib.suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [LOCK]:
                self._remove(self.folder)

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> ResumableVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _folder(output: Path) -> Path:
    return part_path(output).with_suffix("")
