"""The sentences of the documents and of the docstrings, for tests of how the project writes.

Code, formulas and headings are no sentences. Cells of a table, items of a list and descriptions of arguments are texts
of their own. A span of code counts as one word, a link's address as none.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = "`x`"
"""What stands for a span of code: one word."""
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|cf|vs|Fig|Eq|No|et al|approx)\.")
_END = re.compile(r"(?<=[.!?…])[)\"'”*_]*\s+(?=[\"'“(*_`\[]*[A-Z0-9`])")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
_NEXT_FIELD = re.compile(r"; (?=[`]*[a-z]\w*[`]*(?:, [`]*\w+[`]*)*(?: \([^)]*\))?: )")
"""Where a line goes on with the next argument, ``; name: ``."""
_FIELD = re.compile(r"^(\s*)(?:[*`]*[\w.]+[`]*(?:, [*`]*[\w.]+[`]*)*|[A-Z]\w+(?: if)?)(?: \([^)]*\))?:(?=\s|$)")


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it stands."""

    file: str
    line: int
    text: str

    @property
    def words(self) -> int:
        """How many words it has; a span of code, a number and a formula are one each, signs are none."""
        return sum(any(letter.isalnum() for letter in word) for word in self.text.split())

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.words} words: {self.text}"


def sentences(text: str) -> list[str]:
    """A paragraph's sentences, spans of code replaced.

    >>> sentences("One `a b. C` is. Two (see Fig. 3) are!")
    ['One `x` is.', 'Two (see Fig 3) are!']
    """
    text = re.sub(r"``[^`]+``|(?::\w+:)?`[^`]+`", CODE, text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+", CODE, text)
    text = _ABBREVIATIONS.sub(lambda found: found[1].replace(".", ""), text)
    return [part.strip() for part in _END.split(" ".join(text.split())) if part.strip()]


def markdown_paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, items of lists and cells of tables of a page, each with the number of its first line."""
    held: list[str] = []
    begun, fenced = 1, False

    def take() -> Iterator[tuple[int, str]]:
        if held:
            yield begun, " ".join(held)
            held.clear()

    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            yield from take()
            fenced = not fenced
        elif fenced:
            continue
        elif line.lstrip().startswith("|"):
            yield from take()
            for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")):
                if not re.fullmatch(r"[\s:-]*", cell) and not cell.strip().startswith('"'):
                    yield number, cell.strip()
        elif not line.strip() or line.startswith(("#", "<", "![")):
            yield from take()
        else:
            if _ITEM.match(line):
                yield from take()
                line = _ITEM.sub("", line)
            if not held:
                begun = number
            held.append(line.strip())
    yield from take()


def docstring_paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs and descriptions of arguments of a cleaned docstring, each with its line's distance from the first."""
    held: list[str] = []
    begun, literal, depth, sample, table = 0, False, 0, False, False

    def take() -> Iterator[tuple[int, str]]:
        for part in _NEXT_FIELD.split(" ".join(held)):
            if part:
                yield begun, re.sub(r"^[`]*[a-z]\w*[`]*: ", "", part)
        held.clear()

    for number, line in enumerate(text.splitlines()):
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            yield from take()
            sample = table = False
            continue
        table = table or re.fullmatch(r"\s*=[ =]+", line) is not None
        if table or (literal and indent > depth):
            continue
        literal = False
        if line.lstrip().startswith(">>>") or sample:
            yield from take()
            sample = True
            continue
        field = _FIELD.match(line)
        if field or _ITEM.match(line):
            yield from take()
            line = _ITEM.sub("", line[field.end() :] if field else line)
        elif re.match(r"\s*``\S+``\s{2,}", line):
            yield from take()
        elif indent >= 4 and not held and re.search(r" = | -> |^ *python -m ", line):
            continue  # a formula or a command on a line of its own
        if line.rstrip().endswith("::"):
            literal, depth = True, indent
        if line.strip():
            if not held:
                begun = number
            held.append(line.strip())
    yield from take()


def of_page(path: Path, root: Path) -> Iterator[Sentence]:
    """Sentences of a page of Markdown."""
    for line, paragraph in markdown_paragraphs(path.read_text(encoding="utf-8")):
        for text in sentences(paragraph):
            yield Sentence(path.relative_to(root).as_posix(), line, text)


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings of a module and of what is public in it, also those below its constants and fields."""
    bodies: list[ast.Module | ast.ClassDef] = [tree]
    while bodies:
        body = bodies.pop()
        for node in [body, *body.body]:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name.startswith("_"):
                continue
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                held = node.body[:1]
            else:
                held = [node]
            for part in held:
                text = part.value.value if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) else None
                if isinstance(text, str):
                    yield part.lineno, inspect.cleandoc(text)
            if isinstance(node, ast.ClassDef) and node is not body:
                bodies.append(node)


def of_module(path: Path, root: Path) -> Iterator[Sentence]:
    """Sentences of a module's public docstrings."""
    seen = set()
    for line, text in documented(ast.parse(path.read_text(encoding="utf-8"))):
        if (line, text) in seen:
            continue
        seen.add((line, text))
        for offset, paragraph in docstring_paragraphs(text):
            for sentence in sentences(paragraph):
                yield Sentence(path.relative_to(root).as_posix(), line + offset, sentence)
