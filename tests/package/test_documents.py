"""What the documents point at is there: commands and their options, files, tests, classes, headings."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcdm_core.__main__ import build_parser

from .files import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
OTHERS_OPTIONS = {"--no-deps", "--disable-pip", "--index-url", "--depth", "--lowvram"}
"""Of pip, git and ComfyUI."""
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from subparsers(child)


def commands(page: Path) -> list[str]:
    """Whole commands of the command line in a page's blocks of code."""
    found = []
    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if re.match(r"\s*(\$ )?(python -m mcdm_core|mcdm) ", part):
                    found.append(re.sub(r"^.*?(mcdm_core|mcdm) ", "", part.split(" #")[0].strip()))
    return found


def spans(page: Path) -> list[str]:
    """Spans of code outside of blocks."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text(encoding="utf-8")))


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_the_documents_is_understood(command: str) -> None:
    try:
        build_parser().parse_args(shlex.split(command))
    except SystemExit as end:
        assert end.code == 0, "only --help ends here"


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_commands_that_a_text_names_exist(page: Path) -> None:
    parsers = list(subparsers(build_parser()))
    options = {name for parser in parsers for name in parser._option_string_actions} | OTHERS_OPTIONS
    for path in (*ROOT.glob("mcdm_core/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), ROOT / ".ci/structure.py"):
        options |= set(re.findall(r"add_argument\(\s*\"(--[a-z-]+)\"", path.read_text(encoding="utf-8")))
    known = {parser.prog.removeprefix("python -m mcdm_core").split()[0] for parser in parsers[1:]}
    for span in spans(page):
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", span)) <= options, span
        named = re.match(r"(?:python -m mcdm_core|mcdm) ([a-z][\w-]*)", span)
        assert not named or named[1] in known, span


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()) for title in titles]
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not heading or heading in headings(path), target


ROOMS = (
    "",
    "mcdm_core",
    "mcdm_core/models",
    "mcdm_core/pipeline",
    "mcdm_core/media",
    "mcdm_core/data",
    "nodes",
    "tests",
)
ROOMS_OF_ROOMS = ("face", "data/wild", "data/real", "data/synthetic", "conversion", "face/reading")


def found_in_a_room(name: str) -> bool:
    """A file or folder that is named from the root, or from one of the folders that the sections are about."""
    return any((ROOT / room / name).exists() for room in (*ROOMS, *(f"mcdm_core/{room}" for room in ROOMS_OF_ROOMS)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_text_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # tells of what was
    for span in spans(page):
        name = re.fullmatch(
            r"((?:\.\./)?(?:[a-z_0-9.]+/)*[a-z_0-9]+\.(?:py|mjs|md|js|toml|txt)|(?:[a-z_0-9.]+/)+)(?::.*)?", span
        )
        if name and not name[1].startswith(("runs/", "data/synthetic/", "data/real/")):
            assert found_in_a_room(name[1].removeprefix("../")), span


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, its head left out."""
    section = ARCHITECTURE.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def imported(test: Path) -> set[str]:
    """Modules that a test file, or the files of a folder of tests, import, and the names that they take from them."""
    found: set[str] = set()
    for path in test.rglob("*.py") if test.is_dir() else [test]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


SPECIFICATION = rows("From the specification to the code")


def test_every_section_of_the_specification_has_its_row() -> None:
    assert [int(row[0].split(",")[0]) for row in SPECIFICATION] == list(range(10))


@pytest.mark.parametrize("row", SPECIFICATION, ids=lambda row: row[0])
def test_a_section_s_tests_test_its_files(row: list[str]) -> None:
    files, tests = (re.findall(r"`([^`]+)`", cell) for cell in row[1:])
    reached = set().union(*(imported(ROOT / name) for name in tests))
    for name in files:
        path = ROOT / "mcdm_core" / name
        assert path.exists(), name
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        assert any(one == module or one.startswith(f"{module}.") for one in reached), f"{tests} do not import {module}"


@pytest.mark.parametrize("row", rows("Models (`mcdm_core/models/`)"), ids=lambda row: row[0])
def test_classes_and_functions_of_the_table_are_in_their_files(row: list[str]) -> None:
    text = ""
    for name in re.findall(r"`([^`]+)`", row[0]):
        path = ROOT / "mcdm_core/models" / name
        text += "".join(file.read_text(encoding="utf-8") for file in ([path] if path.is_file() else path.rglob("*.py")))
    for name in re.findall(r"`(\w+)[^`]*`", row[1].split("(wraps")[0]):
        assert re.search(rf"^(?:class|def) {name}\b", text, re.MULTILINE), f"{row[0]} has no {name}"


def test_tests_that_a_text_names_exist() -> None:
    names = 0
    for page in PAGES:
        last = ""
        for span in spans(page):
            found = re.fullmatch(r"(?:(?:tests/)?([\w/]+\.py)::)?(test_\w+)", span)
            if found:
                last = found[1] or last
                names += 1
                assert f"def {found[2]}(" in (ROOT / "tests" / last).read_text(encoding="utf-8"), f"{page.name}: {span}"
    assert names > 30


def test_the_readme_s_table_has_every_node_and_no_other() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| node | what it does |")[1].split("\n\n")[0]
    listed = re.findall(r"\*([^*]+)\*", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))
    texts = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(node["display_name"] for node in texts.values())


def test_the_readme_s_python_is_of_this_library() -> None:
    """Names and sizes of the example; the golden tests run what it does."""
    from mcdm_core import MCDMPipeline
    from mcdm_core.config import TINY

    block = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )[0]
    ast.parse(block)
    assert all(hasattr(MCDMPipeline, name) for name in re.findall(r"[Pp]ip(?:e|eline)\.(\w+)\(", block))
    assert f"[f, 3, {TINY.image_size}, {TINY.image_size}]" in block
