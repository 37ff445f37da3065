"""The examples in the library's docstrings give what they say.

``--doctest-modules`` would import every module to look for them, those of optional packages too.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import mcdm_core

LIBRARY = Path(mcdm_core.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("mcdm_core", *path.relative_to(LIBRARY).with_suffix("").parts))
    for path in LIBRARY.rglob("*.py")
    if "\n    >>> " in path.read_text(encoding="utf-8") or "\n        >>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) >= 50
