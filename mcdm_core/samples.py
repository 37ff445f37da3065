"""The pack's own sample portraits and voices."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "assets" / "samples"
PICTURES = (".png", ".jpg")
SOUNDS = (".wav", ".flac")


def list_samples() -> dict[str, list[str]]:
    """File names of the samples: ``{"portraits": [...], "voices": [...]}``, the default first."""
    files = sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []
    portraits = sorted((f.name for f in files if f.suffix in PICTURES), key=lambda name: (name != "portrait.png", name))
    voices = sorted((f.name for f in files if f.suffix in SOUNDS), key=lambda name: (name[:6] != "voice.", name))
    return {"portraits": portraits, "voices": voices}


def default_portrait() -> Path:
    """A synthetic person the models never saw in training."""
    return FOLDER / list_samples()["portraits"][0]


def default_voice() -> Path:
    """A spoken sentence."""
    return FOLDER / list_samples()["voices"][0]
