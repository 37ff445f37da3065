"""Notes to the user that are no errors: in the log, and on the page beside the node."""

from __future__ import annotations

import logging

from .node_run import NodeRun

logger = logging.getLogger(__name__)


def note(run: NodeRun, text: str) -> None:
    """Say something about an input that was taken otherwise than given, or that may spoil the result."""
    logger.warning("MCDM, node %s: %s", run.node, text)
    run.send("note", {"text": text})
