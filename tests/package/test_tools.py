"""The tools that check the code are the same wherever they run."""

from __future__ import annotations

import re

from .files import ROOT


def test_pre_commit_and_continuous_integration_have_the_same_ruff() -> None:
    """Two versions may format the same line in two ways, so that no commit would pass both."""
    pinned = re.search(r"^ruff==(\S+)$", (ROOT / ".ci/constraints.txt").read_text(), re.MULTILINE)
    hook = re.search(r"ruff-pre-commit\n\s+rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert pinned and hook and pinned[1] == hook[1]


def test_continuous_integration_checks_lint_format_types_and_structure() -> None:
    script = (ROOT / ".ci/run").read_text()
    for command in ("ruff check .", "ruff format --check .", "basedpyright", "python .ci/structure.py --check"):
        assert re.search(rf"^{re.escape(command)}$", script, re.MULTILINE), command
