"""Schema helpers and the pack's own socket types."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

CATEGORY = "MCDM"

Model = io.Custom("MCDM_MODEL")
Reference = io.Custom("MCDM_REFERENCE")
EmbeddedAudio = io.Custom("MCDM_AUDIO")
Memory = io.Custom("MCDM_MEMORY")
Motion = io.Custom("MCDM_MOTION")

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def schema(node_id: str, display_name: str, **fields: Any) -> io.Schema:
    """An ``io.Schema`` without the fields that this ComfyUI does not know yet.

    ``search_aliases`` came with 0.11; an unknown keyword would make the whole pack vanish on 0.3.64.
    """
    fields = {"category": CATEGORY, **fields}
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        **{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS},
    )


def model_input() -> Any:
    """The ``model`` socket that almost every node has."""
    return Model.Input("model", tooltip="From Load MCDM Model.")


def reference_input() -> Any:
    """The ``reference`` socket."""
    return Reference.Input("reference", tooltip="The face that speaks, from Encode Reference.")


def steps_input(default: int = 1) -> Any:
    """Denoising steps of the pictures."""
    return io.Int.Input(
        "steps",
        default=default,
        min=1,
        max=100,
        tooltip="Denoising steps of the pictures. The shipped tiny model is best with 1; base wants about 25.",
    )


def motion_steps_input(name: str = "motion_steps") -> Any:
    """Denoising steps of the motion."""
    return io.Int.Input(
        name, default=6, min=1, max=100, tooltip="Denoising steps of the motion; cheap beside the pictures."
    )


def guidance_input(name: str = "guidance", default: float = 1.0) -> Any:
    """Classifier-free guidance; 1 switches it off and halves the work."""
    return io.Float.Input(
        name,
        default=default,
        min=1.0,
        max=10.0,
        step=0.1,
        tooltip="How strongly the voice and face steer the result. 1 = off (twice as fast); base likes 2.5 to 3.5.",
    )


def temperature_input() -> Any:
    """Scale of the noise that the motion begins with."""
    return io.Float.Input(
        "temperature", default=0.0, min=0.0, max=2.0, step=0.05, tooltip="Liveliness: 0 calm, 1 as learnt."
    )


def seed_input() -> Any:
    """The seed, with ComfyUI's control after generation."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Same seed and inputs, same video.",
    )
