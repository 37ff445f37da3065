"""Reading of portraits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcdm_core.errors import MediaError
from mcdm_core.media.portrait import limit_size, load_portrait, picture_size


def gradient(height: int = 60, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(gradient())
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    picture.save(tmp_path / "a.png", exif=exif)
    image = load_portrait(tmp_path / "a.png")
    expected = torch.from_numpy(np.rot90(gradient(), -1).copy()).permute(2, 0, 1) / 255
    assert image.shape == (3, 80, 60) and torch.allclose(image, expected)


def test_transparency_lies_over_grey(tmp_path: Path) -> None:
    pixels = np.dstack([gradient(), np.full((60, 80), 255, np.uint8)])
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    image = load_portrait(tmp_path / "a.png")
    assert torch.allclose(image[:, :10], torch.tensor(0.5))
    assert torch.allclose(image[:, 20], torch.from_numpy(gradient()[20]).T / 255)


def test_grey_sixteen_bit_and_palette(tmp_path: Path) -> None:
    Image.fromarray(gradient()[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(gradient()[..., 0]).save(tmp_path / "grey.png")
    deep, grey = load_portrait(tmp_path / "deep.png"), load_portrait(tmp_path / "grey.png")
    assert deep.shape == grey.shape == (3, 60, 80)
    assert torch.allclose(deep, grey, atol=1e-4)
    Image.fromarray(gradient()).convert("P").save(tmp_path / "palette.gif")
    assert load_portrait(tmp_path / "palette.gif").shape == (3, 60, 80)


def test_broken_and_missing_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no picture"):
        load_portrait(tmp_path / "missing.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with pytest.raises(MediaError, match="broken.png"):
        load_portrait(tmp_path / "broken.png")


def test_limit_size_only_shrinks() -> None:
    assert limit_size(torch.rand(3, 50, 100), 64).shape == (3, 32, 64)
    assert limit_size(torch.rand(3, 50, 40), 64).shape == (3, 50, 40)


def test_kinds_that_start_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program is started"))
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(MediaError, match="Save it as png"):
        load_portrait(tmp_path / "a.png")


def header_alone(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises so many pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest)
    return path


@pytest.mark.parametrize("side", [9_000, 20_000, 1_000_000])
def test_a_picture_too_large_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    with pytest.raises(MediaError, match="pixels"):
        load_portrait(header_alone(tmp_path / "a.png", side, side), 1024)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_large_picture_is_shrunk_while_it_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(600, 800)).save(path, exif=exif)
    small = load_portrait(path, 80)
    whole = limit_size(load_portrait(path), 80)
    assert small.shape == whole.shape == (3, 80, 60) and (small - whole).abs().mean() < 0.01
    assert picture_size(path) == (800, 600)


def test_what_pillow_lacks_is_read_by_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcdm_core.media import portrait

    Image.fromarray(gradient()).save(tmp_path / "a.png")
    monkeypatch.setattr(portrait, "_KINDS", ("BMP",))
    image = load_portrait(tmp_path / "a.png")
    assert image.shape == (3, 60, 80) and picture_size(tmp_path / "a.png") == (60, 80)
    assert torch.allclose(image, torch.from_numpy(gradient()).permute(2, 0, 1) / 255, atol=0.02)
