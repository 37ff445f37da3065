"""All gates of some folders of people, as a table and ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...pipeline import MCDMPipeline
from .motion import MOTION_RULES, motion_scores
from .painting import PAINTING_RULES, painting_scores
from .rule import Gate, Scores, gates_by

PARTS = ("painting", "motion")
"""What can be measured."""


def gates_of(scores: Scores) -> list[Gate]:
    """The gates that some people's mean scores can be held against."""
    return gates_by((*PAINTING_RULES, *MOTION_RULES), scores)


def report(
    pipe: MCDMPipeline,
    folders: Sequence[Path],
    output: Path | None = None,
    *,
    limit: int = 6,
    steps: int | None = None,
    parts: Sequence[str] = PARTS,
) -> dict[str, dict[str, object]]:
    """Scores and gates of every folder, ready for JSON; contact sheets go into ``output``.

    Args:
        limit: clips of a folder; steps: of denoising, the preset's if None; parts: of :data:`PARTS`.
    """
    result: dict[str, dict[str, object]] = {}
    for folder in folders:
        scores: Scores = {}
        if "painting" in parts:
            sheet = None if output is None else output / f"{folder.parent.name}_{folder.name}.png"
            scores.update(painting_scores(pipe, folder, limit=limit, steps=steps, sheet=sheet))
        if "motion" in parts:
            scores.update(motion_scores(pipe, folder, limit=limit))
        gates = [{**asdict(gate), "passed": gate.passed} for gate in gates_of(scores)]
        result[str(folder)] = {"gates": gates, "scores": {name: round(v, 4) for name, v in scores.items()}}
    return result


def table(result: dict[str, dict[str, object]]) -> str:
    """The gates as lines of text."""
    lines = []
    for folder, found in result.items():
        lines.append(folder)
        gates = found["gates"]
        assert isinstance(gates, list)
        for gate in gates:
            bounds = f">= {gate['least']:g}" if gate["most"] >= 99 else f"{gate['least']:g} to {gate['most']:g}"
            mark = "ok    " if gate["passed"] else "missed"
            lines.append(f"  {mark} {gate['name']:<60} {gate['value']:>8.3f}  wanted {bounds:<11} ({gate['baseline']})")
    return "\n".join(lines)
