"""What the pack says of packages that are not there."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from tests.nodes.fixtures import pack_core, pack_module

packages = pack_module("comfy.models.packages")
REQUIREMENTS = (Path(__file__).resolve().parents[3] / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ((), []),
        (("soxr",), ["soxr (resampling of sound", "pip install -r", "restart ComfyUI"]),
        (("diffusers",), ["diffusers (the autoencoder of base", "pip install -r"]),
        (("cv2",), ["works without cv2", "pip install opencv-python-headless"]),
        (("soxr", "diffusers", "cv2"), ["diffusers (", ") and soxr (", "works without cv2"]),
    ],
)
def test_what_is_missing_is_named_with_a_command(
    missing: tuple[str, ...], says: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else object())
    with caplog.at_level(logging.INFO):
        packages.warn_at_start()
    assert all(words in caplog.text for words in says)
    assert bool(caplog.text) == bool(missing), "nothing is said where nothing is missing"


def test_the_command_installs_what_is_missing() -> None:
    assert all(f"\n{package}>=" in REQUIREMENTS for package in packages.USED)


def test_a_package_is_asked_for_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pack_core("errors").PackageError, match="(?s)diffusers .*pip install"):
        packages.import_package("diffusers")
