"""Portraits: any picture in, an upright RGB tensor out."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from ..errors import MediaError, reason

ALPHA_BACKGROUND = 0.5


def load_portrait(path: str | Path) -> torch.Tensor:
    """Read a picture as an upright [3, h, w] float tensor in [0, 1].

    EXIF rotation is applied, transparency is laid over mid-grey, grey and 16-bit pictures are converted.

    Raises:
        MediaError: if the file is missing or is not a picture.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise MediaError(f"There is no picture at {path}. Check the path.")
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(
            f"{path.name} cannot be read as a picture ({reason(error)}). Save it as png or jpg."
        ) from error
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float32)
        # 16-bit greys arrive as integers up to 65535; floating pictures are either in [0, 1] or in 8 bits.
        top = 65535.0 if picture.mode != "F" else (1.0 if values.max(initial=0) <= 1 else 255.0)
        grey = torch.from_numpy(values / top).clamp(0, 1)
        return grey[None].expand(3, -1, -1).contiguous()
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1).float() / 255
        return rgba[:3] * rgba[3:] + ALPHA_BACKGROUND * (1 - rgba[3:])
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255



def limit_size(image: torch.Tensor, max_side: int | None) -> torch.Tensor:
    """Shrink [3, h, w] so that its longer side is at most ``max_side`` pixels; never enlarges."""
    height, width = image.shape[-2:]
    if not max_side or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)
