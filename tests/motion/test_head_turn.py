"""The head turned by hand: where its landmarks go, and what the trained codec makes of it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.face.landmarks import RIGID, eye_centres
from mcdm_core.motion.expression_schedule import parse_schedule, schedule_expressions
from mcdm_core.motion.head_turn import TURNS, turned_landmarks
from mcdm_core.motion.motion import Motion
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline.reference import Reference
from mcdm_core.samples import default_portrait

NOSE, TEMPLES, FOREHEAD, LOWER_NECK = 48, [61, 62], 63, [66, 67]


@pytest.fixture(scope="module")
def pipe() -> MCDMPipeline:
    return MCDMPipeline.from_preset("tiny")


@pytest.fixture(scope="module")
def portrait(pipe: MCDMPipeline) -> Reference:
    from mcdm_core.media.portrait import load_portrait

    return pipe.encode_reference(load_portrait(default_portrait()))


def nose_place(landmarks: torch.Tensor) -> torch.Tensor:
    """Tip of the nose relative to the temples' middle, in half widths of the head."""
    sides = landmarks[TEMPLES]
    return (landmarks[NOSE] - sides.mean(0)) / (sides[1] - sides[0]).norm() * 2


def tilt(landmarks: torch.Tensor) -> float:
    """Degrees of the line between the eyes, positive clockwise."""
    left, right = eye_centres(landmarks)
    return math.degrees(math.atan2(float(right[1] - left[1]), float(right[0] - left[0])))


def test_a_turned_head_keeps_its_lower_neck_and_what_is_not_rigid(portrait: Reference) -> None:
    before = portrait.landmarks.cpu()
    after = turned_landmarks(before, {"yaw": 1.0, "pitch": -0.5, "roll": 0.3})
    rest = [index for index in range(68) if index not in RIGID]
    assert torch.equal(after[rest], before[rest]) and torch.allclose(after[LOWER_NECK], before[LOWER_NECK], atol=1e-6)
    assert torch.allclose(turned_landmarks(before, {}), before, atol=1e-6)


def test_a_roll_is_a_rotation_in_the_picture(portrait: Reference) -> None:
    before = portrait.landmarks.cpu()
    after = turned_landmarks(before, {"roll": 1.0})
    line = after[TEMPLES[1]] - after[TEMPLES[0]]
    old = before[TEMPLES[1]] - before[TEMPLES[0]]
    angle = math.degrees(math.atan2(float(line[1]), float(line[0])) - math.atan2(float(old[1]), float(old[0])))
    assert angle == pytest.approx(TURNS["roll"], abs=1e-3) and line.norm() == pytest.approx(old.norm())
    assert after[FOREHEAD, 0] > before[FOREHEAD, 0], "to the picture's right"


def decoded(pipe: MCDMPipeline, reference: Reference, text: str) -> torch.Tensor:
    """Landmarks [68, 2] of the portrait with a look."""
    still = Motion(reference.motion_tokens.map(lambda stream: stream[:1]), None, None, pipe.config.fps)
    motion = schedule_expressions(still, pipe.model.motion_codec, parse_schedule(text), reference.landmarks)
    landmarks = pipe.motion.decode(reference, motion.tokens, motion.fps).landmarks
    assert landmarks is not None
    return landmarks[0]


@pytest.mark.parametrize(("name", "axis", "sign"), [("yaw", 0, 1), ("pitch", 1, -1)])
def test_the_codec_turns_the_head_as_asked(pipe, portrait, name: str, axis: int, sign: int) -> None:
    places = [float(nose_place(decoded(pipe, portrait, f"{name} {amount}"))[axis]) for amount in (-1, -0.5, 0, 0.5, 1)]
    steps = [sign * (after - before) for before, after in itertools.pairwise(places)]
    print(name, [round(place, 3) for place in places])
    assert all(step > 0.03 for step in steps), "farther with every step of the slider"


def test_the_codec_tips_the_head_as_asked(pipe, portrait) -> None:
    tilts = [tilt(decoded(pipe, portrait, f"roll {amount}")) for amount in (-1, 0, 1)]
    print("roll", [round(value, 1) for value in tilts])
    for step in (tilts[2] - tilts[1], tilts[1] - tilts[0]):
        assert step == pytest.approx(TURNS["roll"], rel=0.2)


def test_a_turn_needs_the_portrait(pipe, portrait) -> None:
    still = Motion(portrait.motion_tokens.map(lambda stream: stream[:1]), None, None, 25.0)
    with pytest.raises(MCDMError, match="landmarks"):
        schedule_expressions(still, pipe.model.motion_codec, parse_schedule("yaw 0.5"))
