"""``--archive``: further pictures of the person, or videos, that show what the portrait lacks."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FaceNotFoundError, FaceTooSmallError

if TYPE_CHECKING:
    from ..pipeline import MCDMPipeline, Reference

_LOOKS_A_SECOND, _SECONDS = 5.0, 60.0


def archived_pictures(pipe: MCDMPipeline, files: Sequence[Path]) -> list[Reference]:
    """The person in pictures, and in the first minute of videos, for :meth:`MCDMPipeline.start_memory`.

    Raises:
        FaceNotFoundError, FaceTooSmallError: if a file shows no face that can be used.
        MediaError: if one cannot be read.
    """
    from ..face.reading.face_track import track_face
    from ..media.portrait import load_portrait
    from ..media.video_reader import VideoReader
    from ..pipeline.memory_builder import seen_in_video

    seen: list[Reference] = []
    for file in files:
        if not (mimetypes.guess_type(file)[0] or "").startswith("video"):
            try:
                seen.append(pipe.encode_reference(load_portrait(file, 1024)))
            except (FaceNotFoundError, FaceTooSmallError) as error:
                raise type(error)(f"{file.name}: {error}") from error
            continue
        video = VideoReader(file, duration=_SECONDS)  # read twice: a minute of large frames fills the memory
        track = track_face(pipe.model.face_network, video.at_rate(_LOOKS_A_SECOND))
        shown = seen_in_video(pipe, track, video.at_rate(_LOOKS_A_SECOND))
        if not shown:
            raise FaceNotFoundError(
                f"{file.name} shows no face in its first {_SECONDS:g} seconds that can be used. Give another video."
            )
        seen += shown
    return seen
