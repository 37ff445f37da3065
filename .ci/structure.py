#!/usr/bin/env python3
"""The package's structure: lines and files by folder, arrows between folders, cycles, arrows that point upwards.

    .ci/structure.py [--check] [ROOT]

Reads the imports of every file (also those inside functions; those for types alone are left out of cycles). With
``--check`` it fails on a cycle, an arrow upwards, a file of more than 400 lines, or a folder of more than 12 files.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = ("mcdm_core", "nodes", "tests", "benchmarks")
PAGE = ("js",)
"""The front end: its files are counted, its imports are not read."""
MOST_LINES, MOST_FILES = 400, 12
LAYERS = (
    "errors",
    "file_lock",
    "files",
    "config",
    "stored_config",
    "correlation",
    "samples",
    "media",
    "face",
    "published",
    "diffusion",
    "models",
    "conversion",
    "model",
    "checkpoint",
    "adapter",
    "motion",
    "pipeline",
    "data",
    "training",
    "evaluation",
    "cli",
)
"""Parts of ``mcdm_core`` from the ground up: each may import from those before it and from itself."""


@dataclass(frozen=True)
class Arrow:
    """One module imports another; ``typing`` where it does so under ``TYPE_CHECKING`` alone."""

    source: str
    target: str
    typing: bool


def module_of(path: Path, root: Path) -> str:
    """``mcdm_core/models/unet.py`` as ``mcdm_core.models.unet``; a package's ``__init__`` is the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(root: Path, folders: tuple[str, ...] = CODE) -> list[Path]:
    """The Python files of some folders, sorted."""
    return sorted(
        path for folder in folders for path in (root / folder).rglob("*.py") if "__pycache__" not in path.parts
    )


def imports_of(path: Path, root: Path, modules: set[str]) -> Iterator[Arrow]:
    """Imports of this repository's own modules."""
    name = module_of(path, root)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for_types.update(inner for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{parent}.{alias.name}" if parent else alias.name
                target = full if full in modules else parent
                if target in modules and target != name:
                    yield Arrow(name, target, node in for_types)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules and alias.name != name:
                    yield Arrow(name, alias.name, node in for_types)


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(found)


def part_of(module: str) -> str:
    """``mcdm_core.models.unet`` as ``models``; ``nodes.comfy.page.progress`` as ``nodes.comfy``."""
    names = module.split(".")
    if names[0] == "mcdm_core":
        return names[1] if len(names) > 1 else "mcdm_core"
    return ".".join(names[:2]) if len(names) > 2 else names[0]


def graph(arrows: list[Arrow], by_part: bool = False) -> dict[str, set[str]]:
    """Who imports whom when the program runs."""
    edges: dict[str, set[str]] = {}
    for arrow in arrows:
        source, target = (part_of(arrow.source), part_of(arrow.target)) if by_part else (arrow.source, arrow.target)
        if not arrow.typing and source != target:
            edges.setdefault(source, set()).add(target)
    return edges


def upward(arrows: list[Arrow]) -> list[Arrow]:
    """Arrows of ``mcdm_core`` against the order of :data:`LAYERS`, those for types included."""
    height = {layer: number for number, layer in enumerate(LAYERS)}
    wrong = []
    for arrow in arrows:
        if not arrow.source.startswith("mcdm_core."):
            continue
        source, target = part_of(arrow.source), part_of(arrow.target)
        if source == "__main__" or target == "mcdm_core":
            continue
        if arrow.target.split(".")[0] != "mcdm_core" or height.get(target, -1) > height.get(source, -1):
            wrong.append(arrow)
    return wrong


@dataclass
class Report:
    """What was found below a root."""

    root: Path
    lines: dict[Path, int]
    arrows: list[Arrow]

    @property
    def files(self) -> Counter[str]:
        """Files by folder, ``__init__.py`` not counted."""
        return Counter(self.folder(path) for path in self.lines if path.name != "__init__.py")

    def folder(self, path: Path) -> str:
        """A file's folder, from the root."""
        return path.parent.relative_to(self.root).as_posix()

    @property
    def module_cycles(self) -> list[list[str]]:
        """Groups of modules that import each other."""
        return cycles(graph(self.arrows))

    @property
    def part_cycles(self) -> list[list[str]]:
        """Groups of parts that import each other."""
        return cycles(graph(self.arrows, by_part=True))

    @property
    def upward(self) -> list[Arrow]:
        """See :func:`upward`."""
        return upward(self.arrows)

    def broken(self) -> list[str]:
        """What breaks the rules, a line each."""
        found = [f"cycle: {' '.join(group)}" for group in self.module_cycles]
        found += [f"cycle of parts: {' '.join(group)}" for group in self.part_cycles]
        found += [f"upwards: {a.source} -> {a.target}{' (types)' if a.typing else ''}" for a in self.upward]
        for path, number in self.lines.items():
            if number > MOST_LINES:
                found.append(f"{path.relative_to(self.root).as_posix()} has {number} lines")
        return found + [f"{folder} has {number} files" for folder, number in self.files.items() if number > MOST_FILES]

    def show(self) -> None:
        """Print everything."""
        sizes: Counter[str] = Counter()
        for path, number in self.lines.items():
            sizes[self.folder(path)] += number
        print(f"{'folder':35} {'files':>5} {'lines':>6}")
        for folder in sorted(sizes):
            print(f"{folder:35} {self.files[folder]:5} {sizes[folder]:6}")
        for top in (*CODE, *PAGE):
            own = [number for path, number in self.lines.items() if self.folder(path).split("/")[0] == top]
            print(f"{top + ' in all':35} {len(own):5} {sum(own):6}")
        print("\narrows between parts, at run time")
        for part, others in sorted(graph(self.arrows, by_part=True).items()):
            print(f"{part:15} -> {' '.join(sorted(others))}")
        print(
            f"\n{len(self.arrows)} arrows, {len(self.module_cycles)} cycles of modules, {len(self.part_cycles)} of "
            f"parts, {len(self.upward)} arrows upwards; the longest file has {max(self.lines.values())} lines, the "
            f"fullest folder {max(self.files.values())} files"
        )
        for line in self.broken():
            print(f"  {line}")


def report(root: Path) -> Report:
    """Read the code below a root."""
    files = python_files(root)
    modules = {module_of(path, root) for path in files}
    own = [path for path in files if path.relative_to(root).parts[0] in ("mcdm_core", "nodes")]
    arrows = {arrow for path in own for arrow in imports_of(path, root, modules)}
    page = [
        path
        for folder in (*PAGE, "tests")
        for kind in ("*.js", "*.mjs", "*.css")
        for path in (root / folder).rglob(kind)
    ]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (*files, *sorted(page))}
    return Report(root, lines, sorted(arrows, key=lambda arrow: (arrow.source, arrow.target)))


def main() -> int:
    """Print the structure; the exit status tells whether it keeps the rules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--check", action="store_true", help="fail where the rules are broken")
    options = parser.parse_args()
    found = report(options.root.resolve())
    found.show()
    return int(options.check and bool(found.broken()))


if __name__ == "__main__":
    sys.exit(main())
