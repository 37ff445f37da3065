"""The page of messages quotes messages that the code really has."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from .files import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTED = re.findall(r'^\| "(.+?)" \|', PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@cache
def texts() -> list[str]:
    """Every string of the published code, its variable parts left out."""
    found = []
    for path in [*(ROOT / "mcdm_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[ds]", "\0", node.value))
    return found


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_exists(message: str) -> None:
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    assert any(re.search(pattern, text, re.DOTALL) for text in texts())


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) >= 20
