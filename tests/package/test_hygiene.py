"""What would be published: small, and free of what registry scanners and users object to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .files import ROOT, registry_files

FORBIDDEN_MODULES = {
    "subprocess",
    "socket",
    "requests",
    "urllib",
    "http",
    "httpx",
    "pickle",
    "ctypes",
    "shelve",
    "marshal",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {("os", "environ"), ("os", "system"), ("os", "popen"), ("sys", "path"), ("torch", "load")}
MAX_MEGABYTES = 60


PUBLISHED = [ROOT / name for name in registry_files()]
PYTHON = [path for path in PUBLISHED if path.suffix == ".py"]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_runtime_code_does_nothing_a_scanner_flags(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii() or "mcdm_core" in path.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in FORBIDDEN_ATTRIBUTES


def test_core_knows_nothing_of_comfyui() -> None:
    for path in (ROOT / "mcdm_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            for name in names:
                assert name.split(".")[0] not in {"comfy", "comfy_api", "folder_paths", "server", "nodes"}, path


def test_errors_of_the_core_name_no_option_of_the_command_line() -> None:
    """They are shown by nodes too; the command line's own files may name its options."""
    for path in (ROOT / "mcdm_core").rglob("*.py"):
        if {"cli", "training", "data", "evaluation"} & set(path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                options = [text for text in texts if isinstance(text, str) and re.search(r"(?<!\w)--[a-z]", text)]
                assert not options, path


def test_nodes_import_the_core_relatively() -> None:
    for path in (ROOT / "nodes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] not in {"mcdm_core", "nodes"}, path


def test_published_code_does_not_need_what_is_left_out() -> None:
    """At import: a command that trains may import what the published pack has not, when it is asked to."""
    gone = {"data", "evaluation", "training"}
    assert not [path for path in PUBLISHED if path.parts[-3:-1] in {("mcdm_core", name) for name in gone}]
    for path in PYTHON:
        if "mcdm_core" not in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                assert (node.module or "").split(".")[0] not in gone, path


def test_the_pack_is_small() -> None:
    size = sum(path.stat().st_size for path in PUBLISHED) / 2**20
    assert size < MAX_MEGABYTES


def test_templates_have_thumbnails() -> None:
    for path in (ROOT / "workflows").glob("*.json"):
        assert path.with_suffix(".jpg").is_file(), f"{path.stem} has no thumbnail"
