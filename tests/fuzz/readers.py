"""The readers of foreign files, each as a function of bytes that raises nothing but our own errors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from mcdm_core.errors import MCDMError, WeightsError
from mcdm_core.media.audio_reader import AudioReader
from mcdm_core.media.portrait import load_portrait, picture_size
from mcdm_core.media.video_reader import VideoReader
from mcdm_core.model import MCDMModel
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline.memory import MotionMemory
from mcdm_core.stored_config import from_json

CORPUS = Path(__file__).parent / "corpus"
_MOST_BLOCKS, _MOST_FRAMES = 2000, 50


def _sound(path: Path) -> None:
    for block in islice(AudioReader(path), _MOST_BLOCKS):
        assert block.ndim == 2 and block.shape[0] in (1, 2)


def _video(path: Path) -> None:
    reader = VideoReader(path)
    for frame in islice(reader.at_rate(25), _MOST_FRAMES):
        assert frame.shape == (3, reader.height, reader.width)


def _picture(path: Path) -> None:
    picture = load_portrait(path, 64)
    assert picture.shape[0] == 3 and max(picture.shape) <= 64 and 0 <= picture.min() <= picture.max() <= 1
    picture_size(path)


def _memory(path: Path) -> None:
    MotionMemory.load(path)


def _motion(path: Path) -> None:
    Motion.load(path)


def _configuration(path: Path) -> None:
    try:
        config = from_json(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, TypeError, AttributeError):  # what load_checkpoint turns into a WeightsError
        raise WeightsError("refused") from None
    MCDMModel.check_fit(config, {})


READERS: dict[str, Callable[[Path], None]] = {
    "sound": _sound,
    "video": _video,
    "picture": _picture,
    "memory": _memory,
    "motion": _motion,
    "configuration": _configuration,
}


def read(kind: str, data: bytes) -> bool:
    """Give a reader these bytes; says whether it took them. Any error but ours goes on."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(data)
        file.flush()
        try:
            READERS[kind](Path(file.name))
        except MCDMError:
            return False
    return True


def seeds(kind: str) -> list[bytes]:
    """The corpus of a reader."""
    return [path.read_bytes() for path in sorted((CORPUS / kind).iterdir())]
