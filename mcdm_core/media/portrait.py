"""Portraits: any picture in, an upright RGB tensor out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import MediaError, reason
from .opening import open_media
from .pixels import picture_planes
from .video_reader import VideoReader

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

ALPHA_BACKGROUND = 0.5
_KINDS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "PCX")
"""Kinds of pictures that Pillow may open. Not among them: EPS, for which it starts a program, and other documents."""
_LARGEST = 64_000_000
"""Most pixels of a picture; a JPEG, which can be decoded at an eighth of its sides, may have more."""
_DRAFT = 8
_LARGEST_SIDE = 8192
_ORIENTATION = 0x0112


def load_portrait(path: str | Path, max_side: int | None = None) -> torch.Tensor:
    """Read a picture as an upright [3, h, w] float tensor in [0, 1].

    EXIF rotation is applied, transparency is laid over mid-grey, grey and 16-bit pictures are converted. HEIC and
    whatever else Pillow lacks is read by FFmpeg.

    Args:
        path: of the picture.
        max_side: shrink it so that its longer side is at most so many pixels. A very large picture is shrunk while it
            is decoded, so that it takes little memory.

    Raises:
        MediaError: if the file is missing, is not a picture, or is too large.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"There is no picture at {path}. Check the path.")
    with _advice(path):
        picture = _opened(path)
        if picture is None:
            return limit_size(_decoded_by_ffmpeg(path), max_side)
        with picture:
            _check_size(path, picture)
            return limit_size(_to_tensor(_shrunk(picture, max_side)), max_side)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture as it is seen upright, without decoding all of it where Pillow reads it.

    Raises:
        MediaError: if the file is missing or is not a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"There is no picture at {path}. Check the path.")
    with _advice(path):
        picture = _opened(path)
        if picture is None:
            height, width = _decoded_by_ffmpeg(path).shape[-2:]
            return height, width
        with picture:
            turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (picture.width, picture.height) if turned else (picture.height, picture.width)


@contextmanager
def _advice(path: Path) -> Iterator[None]:
    """Every way in which Pillow fails on a file becomes one error; its warnings of size and tags are ours to judge."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path.name} has more pixels than are read. Make it smaller.") from error
    except MediaError:
        raise
    except Exception as error:  # a damaged picture ends in errors of any kind
        raise MediaError(
            f"{path.name} cannot be read as a picture ({reason(error)}). Save it as png or jpg."
        ) from error


def _opened(path: Path) -> ImageFile | None:
    """The picture with its header read; None if it is of a kind that Pillow lacks."""
    from PIL import Image, UnidentifiedImageError

    Image.init()  # loads all of Pillow's readers; some kinds, such as MPO, are opened by another's
    try:
        return Image.open(path, formats=[kind for kind in _KINDS if kind in Image.OPEN])
    except UnidentifiedImageError:
        return None


def _check_size(path: Path, picture: ImageFile) -> None:
    limit = _LARGEST * (_DRAFT if picture.format in ("JPEG", "MPO") else 1)
    if picture.width * picture.height > limit:
        raise MediaError(
            f"{path.name} has {picture.width}x{picture.height} pixels; up to {limit // 1_000_000} million are read. "
            "Make it smaller."
        )


def _shrunk(picture: ImageFile, max_side: int | None) -> Image.Image:
    """The picture upright and decoded; one more than twice too large is halved so long as it stays larger."""
    from PIL import ImageOps

    wanted = 2 * max_side if max_side else max(picture.size)
    if picture.width * picture.height > _LARGEST:
        wanted = min(wanted, _LARGEST_SIDE)
    # Only JPEG can do so; it then decodes an eighth, a quarter or a half of each direction.
    picture.draft(None, (min(wanted, picture.width), min(wanted, picture.height)))
    picture.load()
    factor = max(picture.size) // wanted
    plain = picture.mode in ("RGB", "L")  # of others a mean would mix what is no brightness
    small = picture.reduce(factor) if factor > 1 and plain else picture
    return ImageOps.exif_transpose(_with_exif(small, picture))


def _with_exif(small: Image.Image, picture: ImageFile) -> Image.Image:
    if small is not picture:
        small.info.update(picture.info)
        small.getexif().update(picture.getexif())
    return small


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float32)
        # 16-bit greys arrive as integers up to 65535; floating pictures are either in [0, 1] or in 8 bits.
        top = 65535.0 if picture.mode != "F" else (1.0 if values.max(initial=0) <= 1 else 255.0)
        grey = torch.from_numpy(np.nan_to_num(values) / top).clamp(0, 1)
        return grey[None].expand(3, -1, -1).contiguous()
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture_planes(np.array(picture.convert("RGBA")))
        return rgba[:3] * rgba[3:] + ALPHA_BACKGROUND * (1 - rgba[3:])
    return picture_planes(np.array(picture.convert("RGB")))


def _decoded_by_ffmpeg(path: Path) -> torch.Tensor:
    """The first picture of a HEIC, AVIF or other file.

    Raises:
        MediaError: if it is none, or one of tiles, which would have to be put together.
    """
    with open_media(path, advice="Save it as png or jpg.") as container:
        tiles = len(container.streams.video)
    if tiles > 2:
        raise MediaError(f"{path.name} is a picture of {tiles} tiles. Save it as png or jpg.")
    frame = next(iter(VideoReader(path)), None)
    if frame is None:
        raise MediaError(f"{path.name} holds no picture. Save it as png or jpg.")
    return frame


def limit_size(image: torch.Tensor, max_side: int | None) -> torch.Tensor:
    """Shrink [3, h, w] so that its longer side is at most ``max_side`` pixels; never enlarges.

    >>> limit_size(torch.rand(3, 400, 200), 100).shape
    torch.Size([3, 100, 50])
    """
    height, width = image.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)
