"""Schema helpers and the pack's own socket types."""

from __future__ import annotations

import dataclasses
import inspect
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

    ``search_aliases`` came with 0.11, ``has_intermediate_output`` later: with it a page and the history get the result
    of a cached node too. An unknown keyword would make the whole pack vanish on 0.3.64.
    """
    fields = {"category": CATEGORY, **fields}
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        **{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS},
    )


def advanced() -> dict[str, bool]:
    """Arguments that put an input under "advanced"; none where this ComfyUI has no such thing (0.3.64)."""
    return {"advanced": True} if "advanced" in inspect.signature(io.Int.Input.__init__).parameters else {}
