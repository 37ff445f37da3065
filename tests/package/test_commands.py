"""Every command of the command line does its work in both packages, or says in one line what to install."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import save_file

from mcdm_core.config import to_json

from ..conversion.test_assembly import NARROW, stock_unet
from .files import ROOT, build_wheel, registry_files, unpack
from .test_packages import COMMANDS, MAIN, run

SAMPLES = ROOT / "mcdm_core/assets/samples"
EXTRAS = {
    "sign": ("c2pa", "cryptography"),
    "render-data": ("numba", "pypinyin"),
    "label-speech": ("numba", "pocketsphinx"),
    "curate": ("scenedetect", "silero_vad", "pyarrow", "matplotlib"),
}
"""What a command needs of the optional extras."""
SENTENCE = "Please bring the small blue book from the table."
LEFT_OUT = {"evaluate", "render-data", "label-data", "label-speech", "curate", "plan", "train"}
"""Commands whose parts the registry's package leaves out."""


def installed_wheel(folder: Path) -> Path:
    """The folder that an installation of the wheel would fill."""
    unpack(build_wheel(folder), folder / "installed")
    entry = next((folder / "installed").glob("*.dist-info/entry_points.txt")).read_text()
    assert "mcdm = mcdm_core.__main__:main" in entry
    return folder / "installed"


def registry_copy(folder: Path) -> Path:
    """The folder that ComfyUI's registry would make."""
    for name in registry_files():
        target = folder / "ComfyUI-MCDM" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder / "ComfyUI-MCDM"


def inputs(folder: Path) -> dict[str, list[str]]:
    """Every command with small inputs, in an order in which each finds what it needs."""
    sound, rate = soundfile.read(SAMPLES / "voice.flac", stop=16_000)
    (folder / "speech").mkdir()
    soundfile.write(folder / "voice.wav", sound, rate)
    speak = {"flite": ["-o"], "espeak-ng": ["-w"]}
    program = next((name for name in speak if shutil.which(name)), None)
    if program is None:
        pytest.skip("neither flite nor espeak-ng is installed")
    recording = str(folder / "speech" / "anna_1.wav")
    subprocess.run([program, *(["-t"] if program == "flite" else []), SENTENCE, *speak[program], recording], check=True)
    (folder / "speech" / "anna_1.txt").write_text(SENTENCE)
    (folder / "stills").mkdir()
    for number in range(5):
        shutil.copyfile(SAMPLES / "portrait.png", folder / "stills" / f"{number}.png")
    (folder / "narrow.json").write_text(to_json(NARROW))
    save_file(stock_unet(NARROW).state_dict(), folder / "unet.safetensors")
    (folder / "raw").mkdir()
    if all(find_spec(name) for name in EXTRAS["sign"]):
        from ..media.test_credentials import signer

        signer(folder)

    def at(line: str) -> list[str]:
        return [str(folder / word[1:]) if word.startswith("@") else word for word in line.split()]

    return {
        "generate": at("generate --audio @voice.wav --steps 1 --output @raw/a.mp4"),
        "dub": at("dub --video @raw/a.mp4 --audio @voice.wav --steps 1 --output @dubbed.mp4"),
        "info": at("info @dubbed.mp4"),
        "sign": at("sign @dubbed.mp4 --certificate @chain.pem --key @key.pem"),
        "evaluate": [*at("evaluate @raw/a.mp4 --portrait"), str(SAMPLES / "portrait.png")],
        "convert": at("convert --config @narrow.json --unet @unet.safetensors --output @narrow.safetensors"),
        "render-data": at("render-data @rendered --clips 1 --val-clips 1 --test-clips 0 --workers 1"),
        "label-data": at("label-data --stills @stills --output @labelled --keep-apart 1 --frames 4"),
        "label-speech": at("label-speech @speech @spoken"),
        "curate": at("curate @raw @curated --all-consented"),
        "plan": at("plan --preset small --gpus 1"),
        "train": at("train vae --data @labelled --output @trained --minutes 0.02 --threads 1"),
    }


MADE = {
    "generate": "raw/a.mp4",
    "dub": "dubbed.mp4",
    "convert": "narrow.safetensors",
    "render-data": "rendered/train",
    "label-data": "labelled/train",
    "label-speech": "spoken/train",
    "curate": "curated/index.parquet",
    "train": "trained/vae.safetensors",
}
"""What a command leaves on the disk."""


def asks_for_one_thing(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command ended with one line that says what to install."""
    lines = done.stderr.strip().splitlines()
    return done.returncode == 1 and len(lines) == 1 and "pip install" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("package", [installed_wheel, registry_copy], ids=lambda make: make.__name__)
def test_every_command_works_or_says_what_to_install(package: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    home = package(tmp_path / "package")
    commands = inputs(tmp_path)
    assert sorted(commands) == sorted(COMMANDS)
    for name, arguments in commands.items():
        done = run(MAIN, home, *arguments)
        told = f"{name}: {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
        print(told)
        whole = package is installed_wheel or name not in LEFT_OUT
        if not (whole and all(find_spec(extra) for extra in EXTRAS.get(name, ()))):
            assert asks_for_one_thing(done), told
        else:
            assert done.returncode == 0, told
            assert name not in MADE or (tmp_path / MADE[name]).exists(), told
