"""Inputs that several nodes have; each must look and mean the same everywhere."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..mcdm_core.pipeline.defaults import sampling_defaults
from .schema import Model, Reference

LAST_FRAME, ALL_FRAMES = "last frame", "all frames"


def model() -> Any:
    """The ``model`` socket that almost every node has."""
    return Model.Input("model", tooltip="From Load MCDM Model.")


def reference() -> Any:
    """The ``reference`` socket."""
    return Reference.Input("reference", tooltip="The face that speaks, from Encode Reference.")


def steps(default: int = 1) -> Any:
    """Denoising steps of the pictures."""
    return io.Int.Input(
        "steps",
        default=default,
        min=1,
        max=100,
        tooltip="Denoising steps of the pictures. The shipped tiny model is best with 1; base wants about 25.",
    )


def motion_steps(name: str = "motion_steps") -> Any:
    """Denoising steps of the motion."""
    return io.Int.Input(
        name, default=4, min=1, max=100, tooltip="Denoising steps of the motion; cheap beside the pictures."
    )


def guidance(name: str = "guidance", default: float = 1.0) -> Any:
    """Classifier-free guidance; 1 switches it off and halves the work."""
    return io.Float.Input(
        name,
        default=default,
        min=1.0,
        max=10.0,
        step=0.05,
        tooltip="How strongly the voice and face steer the result. 1 = off (twice as fast); base likes 2.5 to 3.5.",
    )


def motion_guidance(name: str = "motion_guidance") -> Any:
    """Guidance of the motion by the voice."""
    return guidance(name, sampling_defaults("tiny").motion_guidance)


def temperature() -> Any:
    """Scale of the noise that the motion begins with."""
    return io.Float.Input(
        "temperature", default=0.0, min=0.0, max=2.0, step=0.05, tooltip="Liveliness: 0 calm, 1 as learnt."
    )


def seed() -> Any:
    """The seed, with ComfyUI's control after generation."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Same seed and inputs, same video.",
    )


def frames_out(tooltip: str) -> Any:
    """What the ``images`` output of a streaming node holds."""
    return io.Combo.Input("frames_out", options=[LAST_FRAME, ALL_FRAMES], default=LAST_FRAME, tooltip=tooltip)
