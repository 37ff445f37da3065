"""What the Face Editor's sliders mean: a key of the expression schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....mcdm_core.errors import MCDMError

if TYPE_CHECKING:
    from ....mcdm_core.motion.expression_schedule import ExpressionKey

TRAITS = {
    "smile": "Above 0: corners of the mouth up; below: down.",
    "brows": "Above 0: brows up; below: drawn together.",
    "eyes": "Above 0: eyes wide; below: narrowed.",
    "gaze_x": "Above 0: looks to the picture's right; below: to its left.",
    "gaze_y": "Above 0: looks up; below: down.",
    "yaw": "Above 0: the head turns to the picture's right; below: to its left.",
    "pitch": "Above 0: the head is lifted; below: lowered.",
    "roll": "Above 0: the head tips to the picture's right; below: to its left.",
}
"""As in ``motion/face_values.py`` and ``motion/head_turn.py``, written out: importing would slow ComfyUI's start."""


def look_of(values: object) -> ExpressionKey:
    """The look that the sliders' values (by name) ask for.

    Raises:
        MCDMError: for something that is no slider's value.
    """
    from ....mcdm_core.motion.expression_schedule import ExpressionKey, format_key, parse_schedule

    try:
        given = {str(name): value for name, value in values.items()}  # pyright: ignore[reportAttributeAccessIssue]
        name, strength = str(given.get("expression", "neutral")), float(given.get("strength", 0.0))
        amounts = tuple((trait, round(float(given.get(trait, 0.0)), 3)) for trait in TRAITS)
        seconds = float(given.get("seconds", 0.0))
    except (AttributeError, TypeError, ValueError) as error:
        raise MCDMError(f"{values!r} are no values of a Face Editor; send numbers by the sliders' names.") from error
    key = ExpressionKey(
        seconds,
        name,
        0.0 if name == "neutral" else round(strength, 3),
        tuple((trait, amount) for trait, amount in amounts if amount),
    )
    # Reading what was written keeps to the schedule's own limits.
    (key,) = parse_schedule(format_key(key))
    return key
