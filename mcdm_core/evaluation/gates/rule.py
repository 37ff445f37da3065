"""One gate: what is measured, within which bounds it has to lie, and what the laziest baseline reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Scores = dict[str, float]


@dataclass(frozen=True)
class Gate:
    """One line of the report: what was measured, what is wanted, and the laziest baseline beside it."""

    name: str
    value: float
    least: float
    most: float
    baseline: str

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds."""
        return self.least <= self.value <= self.most


@dataclass(frozen=True)
class Rule:
    """How a gate follows from scores; ``needs`` is a score without which it is left out."""

    name: str
    value: Callable[[Scores], float]
    least: float
    most: float
    baseline: Callable[[Scores], str]
    needs: str


def gates_by(rules: Sequence[Rule], scores: Scores) -> list[Gate]:
    """The gates that these scores can be held against."""
    return [
        Gate(rule.name, round(rule.value(scores), 4), rule.least, rule.most, rule.baseline(scores))
        for rule in rules
        if rule.needs in scores
    ]
