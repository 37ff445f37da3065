"""Faces that sliders change between runs: the latest model and reference of each Face Editor."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ....mcdm_core.errors import MCDMError

if TYPE_CHECKING:
    from ....mcdm_core.motion.expression_schedule import ExpressionKey
    from ....mcdm_core.pipeline.reference import Reference
    from ..models.model_patcher import LoadedModel
    from .node_run import NodeRun

KEPT_FACES = 8


@dataclass(frozen=True)
class _Face:
    model: weakref.ref[LoadedModel]
    reference: Reference


class LiveFaces:
    """What Face Editors last ran with, and pictures of it. Thread-safe: the worker keeps, the server asks.

    Models are held weakly: when ComfyUI drops one, sliders ask for another run.
    """

    def __init__(self, kept: int = KEPT_FACES) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._faces: OrderedDict[tuple[str, str], _Face] = OrderedDict()

    def keep(self, run: NodeRun, model: LoadedModel, reference: Reference) -> None:
        """Remember what a node runs with."""
        with self._lock:
            self._faces[run.workflow, run.node] = _Face(weakref.ref(model), reference)
            self._faces.move_to_end((run.workflow, run.node))
            while len(self._faces) > self._kept:
                self._faces.popitem(last=False)

    def knows(self, workflow: str, node: str) -> bool:
        """Whether :meth:`picture` has what it needs."""
        with self._lock:
            face = self._faces.get((workflow, node))
        return face is not None and face.model() is not None

    def picture(self, workflow: str, node: str, look: ExpressionKey) -> torch.Tensor:
        """The face crop [3, s, s] in [0, 1] of a node with a look.

        Raises:
            MCDMError: if the node has not run, or its model is gone.
        """
        from ....mcdm_core.pipeline.still_face import still_face

        with self._lock:
            face = self._faces.get((workflow, node))
        model = face.model() if face is not None else None
        if face is None or model is None:
            raise MCDMError("This Face Editor has not run yet, or its model was unloaded. Run the workflow once.")
        with self._drawing, torch.inference_mode():
            return still_face(model.ready(), face.reference, look).cpu()


LIVE_FACES = LiveFaces()
