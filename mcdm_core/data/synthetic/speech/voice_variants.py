"""Voices that espeak-ng does not come with: variants of its own kind, drawn at random.

A variant is a short text file. It moves the formants of a language's voice, sets its pitch, roughness and breath, and
may choose the Klatt synthesiser. The program reads it from its data folder. So it is given a folder of links to the
installed data with one more variant in it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..people.head_asset import default_cache

_FORMANTS = 9


def random_variant(male: bool, rng: np.random.Generator) -> str:
    """The text of a variant: what the installed ones set, in the ranges most of them have.

    Args:
        male: whether the pitch and the formants are those of a man.
    """
    low = rng.uniform(60, 120) if male else rng.uniform(130, 210)
    lines = [f"pitch {low:.0f} {low * rng.uniform(1.2, 1.7):.0f}"]
    if rng.random() < 0.3:
        lines.append(f"klatt {rng.integers(1, 7)}")
    tract = rng.uniform(0.84, 1.08) if male else rng.uniform(1.0, 1.22)
    for number in range(_FORMANTS):
        frequency = 100 * tract * rng.normal(1.0, 0.05)
        lines.append(f"formant {number} {frequency:.0f} {rng.uniform(60, 125):.0f} {rng.uniform(60, 170):.0f}")
    lines.append(f"flutter {rng.integers(0, 9)}")
    lines.append(f"roughness {rng.integers(0, 5)}")
    lines.append(f"voicing {rng.uniform(60, 160):.0f}")
    lines.append(f"consonants {rng.uniform(40, 150):.0f} {rng.uniform(60, 150):.0f}")
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(rng.integers(0, 11)) for _ in range(8)))
    if rng.random() < 0.3:
        lines.append("stressAmp " + " ".join(str(rng.integers(14, 26)) for _ in range(8)))
    return "language variant\nname drawn\n" + "\n".join(lines) + "\n"


def linked_data(installed: Path) -> Path:
    """A folder that espeak-ng can be started with, in the cache: links to ``installed``, and room for one variant more.

    Args:
        installed: espeak-ng's data folder.

    Returns:
        The folder that holds ``espeak-ng-data``.
    """
    root = default_cache().parent / "espeak-ng"
    _link_entries(installed, root / "espeak-ng-data", but="voices")
    _link_entries(installed / "voices", root / "espeak-ng-data" / "voices", but="!v")
    _link_entries(installed / "voices" / "!v", _folder(root), but="")
    return root


def write_variant(root: Path, text: str) -> str:
    """Put a variant of this process into a folder of :func:`linked_data`; returns its name."""
    name = f"drawn{os.getpid()}"
    (_folder(root) / name).write_text(text, encoding="ascii")
    return name


def _folder(root: Path) -> Path:
    return root / "espeak-ng-data" / "voices" / "!v"


def _link_entries(source: Path, target: Path, but: str) -> None:
    """Links in ``target`` to all that is in ``source``; several processes may do it at once."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        link = target / entry.name
        if entry.name == but or (link.is_symlink() and link.readlink() == entry):
            continue
        made = target / f".{entry.name}.{os.getpid()}"
        made.symlink_to(entry)
        made.replace(link)
