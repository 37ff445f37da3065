"""One picture of a portrait with another expression: what sliders show while they are moved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..motion.expression_schedule import ExpressionKey, schedule_expressions
from ..motion.motion import Motion
from .reference import Reference

if TYPE_CHECKING:
    from .pipeline import MCDMPipeline


@torch.no_grad()
def still_face(pipe: MCDMPipeline, reference: Reference, look: ExpressionKey, seed: int = 0) -> Tensor:
    """The face crop [3, s, s] in [0, 1] with a look; a single frame is sampled, a sixteenth of a clip's work.

    Args:
        look: its time does not matter; neutral without traits is the portrait's own face, painted.
    """
    codec = pipe.model.motion_codec
    own = reference.motion_tokens.map(lambda stream: stream[:1].cpu())
    still = Motion(own, None, None, pipe.config.fps)
    key = dataclasses.replace(look, seconds=0.0)
    motion = schedule_expressions(still, codec, [key], reference.landmarks)
    tokens = motion.tokens.map(lambda stream: stream.to(pipe.device))
    motion = pipe.motion.decode(reference, tokens, motion.fps)
    memory = pipe.start_memory(reference, seed)
    clip = pipe.clips.sample(reference, motion, memory, landmarks=motion.landmarks, whole=False)
    return clip.frames[0]
