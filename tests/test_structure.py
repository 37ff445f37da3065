"""The house stays in order: no import cycle, no arrow upwards, no long file, no crowded folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structure", ROOT / ".ci" / "structure.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def make(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / "mcdm_core" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_repository_keeps_the_rules(structure: ModuleType) -> None:
    assert structure.report(ROOT).broken() == []


def test_a_cycle_and_an_arrow_upwards_are_found(structure: ModuleType, tmp_path: Path) -> None:
    make(
        tmp_path,
        models__unet="from ..pipeline.memory import M",
        pipeline__memory="def f():\n    from ..models import unet",
        face__warp="x = 1",
    )
    report = structure.report(tmp_path)
    assert report.module_cycles == [["mcdm_core.models.unet", "mcdm_core.pipeline.memory"]]
    assert [(arrow.source, arrow.target) for arrow in report.upward] == [
        ("mcdm_core.models.unet", "mcdm_core.pipeline.memory")
    ]


def test_an_import_for_types_makes_no_cycle(structure: ModuleType, tmp_path: Path) -> None:
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B"
    make(tmp_path, models__a=typing, models__b="from .a import A")
    assert structure.report(tmp_path).module_cycles == []


def test_a_long_file_is_found(structure: ModuleType, tmp_path: Path) -> None:
    make(tmp_path, models__long="\n" * 401)
    assert structure.report(tmp_path).broken() == ["mcdm_core/models/long.py has 401 lines"]


def test_a_crowded_folder_is_found(structure: ModuleType, tmp_path: Path) -> None:
    make(tmp_path, **{f"models__part_{number}": "" for number in range(15)})
    assert structure.report(tmp_path).broken() == ["mcdm_core/models has 15 files"]
