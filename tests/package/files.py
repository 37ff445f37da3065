"""The files that a package would hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from pathspec import PathSpec

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[str]:
    """Files under version control, from the root; every file that git would not ignore where there is no git."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        ignored = PathSpec.from_lines("gitignore", [*(ROOT / ".gitignore").read_text().splitlines(), ".git/"])
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not ignored.match_file(name)]
    return sorted(name for name in names if (ROOT / name).is_file())


def registry_files() -> list[str]:
    """What ``comfy node publish`` packs: tracked files but those of ``.comfyignore``."""
    left_out = PathSpec.from_lines("gitignore", (ROOT / ".comfyignore").read_text().splitlines())
    return [name for name in tracked() if not left_out.match_file(name)]


def build_wheel(folder: Path) -> Path:
    """A wheel of the tracked files, built by the project's own build backend without the network."""
    source = folder / "source"
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    code = f"import setuptools.build_meta as b; b.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, folder: Path) -> list[str]:
    """Unpack a wheel as installing it does; the names of its files."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        return archive.namelist()
