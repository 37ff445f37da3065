"""The few curves of a motion that the player draws under the waveform."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ....mcdm_core.motion.motion import Motion as FaceMotion

NAMES = {"lip_opening": "lip opening", "head_yaw": "head yaw", "blink": "blink"}


def player_curves(motion: FaceMotion, frames: int) -> dict[str, list[float]]:
    """Lip opening and blink (about 0..1) and head yaw (about radians), one number a frame.

    A motion that was not decoded has no curves; zeros are given for it.
    """
    if motion.values is None or motion.landmarks is None:
        return {name: [0.0] * frames for name in NAMES}
    from ....mcdm_core.motion.plot import motion_curves

    curves = motion_curves(motion[:frames])
    return {name: [round(float(value), 4) for value in curves[source]] for name, source in NAMES.items()}
