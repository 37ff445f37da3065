"""The registry's package and the wheel hold what they promise, and their command lines work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from .files import ROOT, build_wheel, registry_files, tracked, unpack

COMMANDS = (
    "generate",
    "dub",
    "info",
    "sign",
    "evaluate",
    "convert",
    "render-data",
    "label-data",
    "label-speech",
    "curate",
    "plan",
    "train",
)


NOT_EDITABLE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
"""An editable installation would lend what the copy lacks."""


def run(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder, which is where ``mcdm_core`` comes from."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", NOT_EDITABLE + code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


ALL_HELP = """
import contextlib, io, sys
import mcdm_core
from mcdm_core.__main__ import build_parser, main
assert mcdm_core.__file__.startswith(sys.argv[1]), mcdm_core.__file__
for command in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            main([command, "--help"])
        except SystemExit as done:
            assert done.code == 0, command
    assert "usage:" in shown.getvalue(), command
known = [a for a in build_parser()._actions if a.dest == "command"][0].choices
assert sorted(known) == sorted(sys.argv[2:]), sorted(known)
"""
MAIN = "import sys; from mcdm_core.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def registry_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("custom_nodes") / "ComfyUI-MCDM"
    for name in registry_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def test_every_node_has_its_help_page_in_the_registry() -> None:
    names, packed = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8")), registry_files()
    assert names
    assert [name for name in names if f"js/docs/{name}.md" not in packed] == []


@pytest.mark.parametrize("page", ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md"))])
def test_pictures_and_pages_that_a_page_names_are_in_the_registry_package(page: str) -> None:
    text, packed = (ROOT / page).read_text(encoding="utf-8"), set(registry_files())
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"<img[^>]+src=\"([^\"]+)\"", text):
        if not re.match(r"[a-z]+:", target):
            path = (folder / target).resolve().relative_to(ROOT).as_posix()
            assert path in packed or any(name.startswith(f"{path}/") for name in packed), f"{page} names {target}"


def test_the_registry_package_holds_the_weights_once_and_no_workshop() -> None:
    packed = registry_files()
    assert [name for name in packed if name.endswith((".safetensors", ".pt", ".ckpt"))] == [
        "mcdm_core/assets/mcdm_tiny.safetensors"
    ]
    workshop = re.compile(r"(^|/)(tests?|training|benchmarks?|evaluation|data|\.ci|\.github)/")
    assert [name for name in packed if workshop.search(name)] == []
    left_by_tools = {name.partition("/")[0] for name in packed if name.startswith(".")} - {".comfyignore", ".gitignore"}
    assert left_by_tools == set()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--people", "there"],
        ["render-data", "made"],
        ["label-data", "--videos", "there", "--output", "made"],
        ["label-speech", "there", "made"],
        ["train", "vae", "--data", "there", "--output", "made"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_the_registry_package_lacks_says_what_to_install(
    registry_copy: Path, command: list[str]
) -> None:
    (registry_copy / "there").mkdir(exist_ok=True)
    done = run(MAIN, registry_copy, *command)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "pip install" in lines[0], done.stderr


def test_the_registry_copy_shows_every_command_and_its_model(registry_copy: Path) -> None:
    done = run(ALL_HELP, registry_copy, str(registry_copy), *COMMANDS)
    assert done.returncode == 0, done.stderr
    done = run(MAIN, registry_copy, "info")
    assert done.returncode == 0 and "tiny" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_works(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    names = unpack(build_wheel(tmp_path), installed)
    code = {name for name in names if "dist-info" not in name}
    assert {name.split("/")[0] for name in code} == {"mcdm_core"}
    assert [name for name in code if name.endswith(".safetensors")] == ["mcdm_core/assets/mcdm_tiny.safetensors"]
    assert {name for name in tracked() if name.startswith("mcdm_core/") and name.endswith(".py")} <= code
    assert "mcdm_core/data/synthetic/speech/sentences.json" in code
    done = run(ALL_HELP, installed, str(installed), *COMMANDS)
    assert done.returncode == 0, done.stderr
    video = tmp_path / "talking.mp4"
    sound, rate = soundfile.read(installed / "mcdm_core/assets/samples/voice.flac", stop=16_000)
    soundfile.write(tmp_path / "voice.wav", sound, rate)
    done = run(MAIN, installed, "generate", "--audio", str(tmp_path / "voice.wav"), "--output", str(video))
    assert done.returncode == 0 and video.stat().st_size > 10_000, done.stderr


def test_the_version_is_the_same_everywhere() -> None:
    from mcdm_core import __version__

    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
