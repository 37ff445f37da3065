"""Portrait photographs as training material: reading, and clips of one still for the shards.

A folder of pictures cut around heads is read as it is; :func:`still_clip` turns one labelled portrait into a short
clip by a slow virtual camera (shift, zoom, turn), with landmarks that move along.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def list_stills(folder: Path, keep_apart: int = 0) -> tuple[list[Path], list[Path]]:
    """Pictures of a folder by sorted name, the last ``keep_apart`` as the second list (validation).

    Raises:
        MediaError: if there are none.
    """
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise MediaError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}); give the folder of portraits.")
    cut = len(paths) - keep_apart
    return paths[:cut], paths[cut:]


def read_still(path: Path) -> NDArray[np.uint8]:
    """One picture as ``[h, w, 3]`` uint8 RGB.

    Raises:
        MediaError: if it cannot be decoded.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MediaError(f"{path} cannot be decoded as a picture; delete it or convert it to JPEG or PNG.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
