"""Inputs that several nodes have; each must look and mean the same everywhere."""

from __future__ import annotations

from comfy_api.latest import io

from .schema import Model, Reference, advanced

LAST_FRAME, ALL_FRAMES = "last frame", "all frames"
EXPRESSION = "Looks with seconds and strength: '0 neutral, 3.5 happy 0.8 gaze_x 0.4'. Empty: as the voice makes it."


def model() -> io.Input:
    """The ``model`` socket that almost every node has."""
    return Model.Input("model", tooltip="From Load MCDM Model.")


def reference() -> io.Input:
    """The ``reference`` socket."""
    return Reference.Input("reference", tooltip="The face that speaks, from Encode Reference.")


def steps() -> io.Int.Input:
    """Denoising steps of the pictures."""
    return io.Int.Input(
        "steps", default=0, min=0, max=100, tooltip="Denoising steps of the pictures. 0: the model's own number."
    )


def guidance() -> io.Float.Input:
    """Classifier-free guidance of the pictures; 1 switches it off and halves the work."""
    return io.Float.Input(
        "guidance",
        default=0.0,
        min=0.0,
        max=10.0,
        step=0.05,
        tooltip="How strongly the motion steers the pictures. 0: the model's own; 1: off, twice as fast.",
    )


def motion_steps(name: str = "motion_steps") -> io.Int.Input:
    """Denoising steps of the motion."""
    return io.Int.Input(
        name,
        default=0,
        min=0,
        max=100,
        tooltip="Denoising steps of the motion. 0: the model's own number.",
        **advanced(),
    )


def motion_guidance(name: str = "motion_guidance") -> io.Float.Input:
    """Guidance of the motion by the voice."""
    return io.Float.Input(
        name,
        default=0.0,
        min=0.0,
        max=10.0,
        step=0.05,
        tooltip="How strongly the voice steers the motion: larger opens the mouth wider. 0: the model's own; 1: off.",
        **advanced(),
    )


def temperature() -> io.Float.Input:
    """Scale of the noise that the motion begins with."""
    return io.Float.Input(
        "temperature",
        default=-1.0,
        min=-1.0,
        max=2.0,
        step=0.05,
        tooltip="Liveliness: 0 calm and the same for every seed, 1 as learnt. Below 0: the model's own.",
    )


def seed() -> io.Int.Input:
    """The seed, with ComfyUI's control after generation."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Chooses the movement, the blinks and the grain. Same seed and inputs, same video.",
    )


def expression() -> io.String.Input:
    """Expressions over time."""
    return io.String.Input(
        "expression",
        default="",
        multiline=False,
        optional=True,
        tooltip=EXPRESSION,
    )


def head_movement() -> io.Float.Input:
    """Scale of the head's movement."""
    return io.Float.Input(
        "head_movement",
        default=1.0,
        min=0.0,
        max=2.0,
        step=0.05,
        optional=True,
        tooltip="How far the head moves: 0 still, 1 as predicted.",
    )


def blinks() -> io.Boolean.Input:
    """Whether the face blinks."""
    return io.Boolean.Input("blinks", default=True, optional=True, tooltip="Whether the face blinks by itself.")


def blink_rate() -> io.Float.Input:
    """How often the face blinks."""
    return io.Float.Input(
        "blink_rate",
        default=17.0,
        min=0.0,
        max=60.0,
        step=1.0,
        optional=True,
        tooltip="Blinks a minute; people blink 12 to 25 times. 0: never. Needs 'blinks'.",
        **advanced(),
    )


def frames_out(tooltip: str) -> io.Combo.Input:
    """What the ``images`` output of a streaming node holds."""
    return io.Combo.Input(
        "frames_out", options=[LAST_FRAME, ALL_FRAMES], default=LAST_FRAME, tooltip=tooltip, **advanced()
    )
