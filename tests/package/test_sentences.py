"""What people read is in plain English: short sentences, and the field's words instead of private ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .files import ROOT
from .prose import docstring_paragraphs, markdown_paragraphs, of_module, of_page, sentences

MOST_WORDS = 25
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for folder in ("docs", "js/docs", "mcdm_core/assets") for path in sorted((ROOT / folder).rglob("*.md"))),
]
MODULES = [path for folder in ("mcdm_core", "nodes") for path in sorted((ROOT / folder).rglob("*.py"))]
PRIVATE_WORDS = re.compile(r"\b(ears?|heard|quads?|stretch(?:es)?|yardsticks?)\b", re.IGNORECASE)
PRIVATE_NAMES = re.compile(r"(?:^|_)(heard|quads?|stretch(?:es)?|yardsticks?)(?:_|$)", re.IGNORECASE)
STRETCHED = {
    "mcdm_core/data/synthetic/speech/neural.py",
    "mcdm_core/data/synthetic/speech/speech.py",
    "mcdm_core/training/face/reader_augmentation.py",
}
"""Files in which something is really stretched."""


def name(path: Path) -> str:
    """A path from the root."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_s_sentences_are_short(page: Path) -> None:
    assert [str(one) for one in of_page(page, ROOT) if one.words > MOST_WORDS] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name)
def test_the_docstrings_sentences_are_short(folder: Path) -> None:
    found = [one for path in sorted(folder.glob("*.py")) for one in of_module(path, ROOT)]
    assert [str(one) for one in found if one.words > MOST_WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_no_private_words(page: Path) -> None:
    assert [str(one) for one in of_page(page, ROOT) if PRIVATE_WORDS.search(one.text)] == []


def test_no_name_in_the_code_is_a_private_word() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [getattr(node, field, None) for field in ("name", "id", "attr", "arg")]
            private = [one for one in names if isinstance(one, str) and PRIVATE_NAMES.search(one)]
            assert not private or name(path) in STRETCHED, f"{name(path)}: {private}"


PAGE = """# A heading that is never counted

One `two three`, [four](https://a.b/c d)
and five (5.5 %). Next!

```
no. code
```
| a cell. And | "a message. quoted" |
| --- | --- |
- an item
  of two lines
"""
MODULE = '''"""A module.

Two sentences. In it:

    x = formula of it
"""

class A:
    """A class.

    Args:
        size: of it; width: in pixels.
        other: a longer
            one.
    """

    b: int
    """Its b."""

    def _hidden(self):
        """Not read."""

    def shown(self):
        """Of ``x. y``.

        >>> 1 + 1
        2
        """
'''


def test_sentences_are_found_and_counted(tmp_path: Path) -> None:
    """The tests above would pass with a counter that sees nothing."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    found = [(one.line, one.text, one.words) for one in of_page(page, tmp_path)]
    assert found == [
        (3, "One `x`, four and five (5.5 %).", 6),
        (3, "Next!", 1),
        (9, "a cell.", 2),
        (9, "And", 1),
        (11, "an item of two lines", 5),
    ]
    assert len([one for page in PAGES for one in of_page(page, ROOT)]) > 1000
    module = tmp_path / "module.py"
    module.write_text(MODULE)
    texts = [one.text for one in of_module(module, tmp_path)]
    assert sorted(texts) == sorted(
        [
            "A module.",
            "Two sentences.",
            "In it:",
            "A class.",
            "of it",
            "in pixels.",
            "a longer one.",
            "Its b.",
            "Of `x`.",
        ]
    )
    assert len([one for path in MODULES for one in of_module(path, ROOT)]) > 3000


def test_a_sentence_ends_where_the_next_begins() -> None:
    assert sentences("See e.g. Figure 3 (Lim et al. 2017). `so` it is… Then") == [
        "See eg Figure 3 (Lim et al 2017).",
        "`x` it is…",
        "Then",
    ]
    assert [text for _, text in markdown_paragraphs("a\nb\n\nc")] == ["a b", "c"]
    assert [text for _, text in docstring_paragraphs("a\nb\n\nc")] == ["a b", "c"]
