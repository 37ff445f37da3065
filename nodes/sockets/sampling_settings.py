"""What the samplers' widgets mean: 0 (or -1) leaves a setting to the model, the rest is handed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...mcdm_core.motion.motion import Motion
    from ...mcdm_core.pipeline import AudioEmbedding, MCDMPipeline, Reference
    from ...mcdm_core.pipeline.memory import MotionMemory


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are sampled."""

    steps: int
    guidance: float

    @classmethod
    def of(cls, pipeline: MCDMPipeline, steps: int, guidance: float) -> PictureSettings:
        """The widgets' values, or the model's own where they are 0."""
        from ...mcdm_core.pipeline.defaults import sampling_defaults

        own = sampling_defaults(pipeline.config.preset)
        return cls(steps or own.steps, guidance or own.guidance)

    def arguments(self) -> dict[str, Any]:
        """For ``sample_clip``."""
        return {"steps": self.steps, "guidance": self.guidance}


@dataclass(frozen=True)
class MotionSettings:
    """How motion is predicted, and changed before it becomes pictures.

    Attributes:
        steps, guidance: 0 for the model's own; temperature: below 0 for the model's own.
        expression: a schedule (``motion/expression_schedule.py``); head_movement: 1 as predicted, 0 at rest.
        blink_rate: blinks a minute, where the face blinks by itself.
    """

    steps: int = 0
    guidance: float = 0.0
    temperature: float = -1.0
    expression: str = ""
    head_movement: float = 1.0
    blinks: bool = True
    blink_rate: float = 17.0

    def arguments(self, prefix: str = "") -> dict[str, Any]:
        """For ``predict_motion``, or with the prefix ``motion_`` for ``generate``; None is the model's own."""
        return {
            f"{prefix}steps": self.steps or None,
            f"{prefix}guidance": self.guidance or None,
            "temperature": None if self.temperature < 0 else self.temperature,
            "blinks": self.blinks,
            "blink_rate": self.blink_rate,
        }

    @property
    def edited(self) -> bool:
        """Whether the predicted motion is changed, so that the whole of it must be there before the pictures."""
        return bool(self.expression.strip()) or self.head_movement != 1.0

    def check(self) -> None:
        """Read the schedule now rather than after a long prediction.

        Raises:
            MCDMError: if it cannot be read.
        """
        from ...mcdm_core.motion.expression_schedule import parse_schedule

        parse_schedule(self.expression)

    def predict(
        self,
        pipeline: MCDMPipeline,
        reference: Reference,
        audio: AudioEmbedding,
        memory: MotionMemory,
        **others: Any,
    ) -> Motion:
        """Predict the whole voice's motion and change it."""
        from ...mcdm_core.motion import editing
        from ...mcdm_core.motion.expression_schedule import parse_schedule, schedule_expressions

        motion = pipeline.predict_motion(reference, audio, memory, **self.arguments(), **others)
        changed = motion
        if self.head_movement != 1.0:
            rest = reference.motion_tokens.map(lambda stream: stream[0])
            changed = editing.scale_motion(changed, rest, head=self.head_movement)
        # After it: what the schedule turns by hand is not made less.
        codec, keys = pipeline.model.motion_codec, parse_schedule(self.expression)
        changed = schedule_expressions(changed, codec, keys, reference.landmarks)
        if changed is motion:
            return motion
        tokens = changed.tokens.map(lambda stream: stream.to(pipeline.device))
        return pipeline.motion.decode(reference, tokens, changed.fps, memory if self.blinks else None, self.blink_rate)
