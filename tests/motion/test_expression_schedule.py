"""Schedules of expressions: what is read, when which expression holds, and how it changes a motion."""

from __future__ import annotations

import math

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.models.motion_codec import EXPRESSIONS, MotionCodec, MotionTokens
from mcdm_core.motion.expression_schedule import (
    FADE,
    format_key,
    parse_schedule,
    schedule_expressions,
    schedule_weights,
)
from mcdm_core.motion.face_values import TraitAxes
from mcdm_core.motion.motion import Motion

from ..motion_fixtures import CONFIG


class Bank:
    """In place of a codec: each named expression is a constant."""

    def named_expression(self, name: str) -> torch.Tensor:
        return torch.full((2, 4), float(EXPRESSIONS.index(name)))


def calm(frames: int = 200) -> Motion:
    """A motion with small changes of its expression around 0."""
    torch.manual_seed(0)
    return Motion(
        MotionTokens(torch.zeros(frames, 1, 4), torch.zeros(frames, 3, 4), torch.randn(frames, 2, 4) * 0.1),
        None,
        None,
        25.0,
    )


def test_a_schedule_is_read_in_any_order_and_by_lines() -> None:
    keys = parse_schedule("3.5 Happy 0.8,\n 0 neutral; 6 sad")
    assert [(key.seconds, key.name, key.strength) for key in keys] == [
        (0.0, "neutral", 0.0),
        (3.5, "happy", 0.8),
        (6.0, "sad", 1.0),
    ]
    assert parse_schedule("happy 0.5")[0].seconds == 0 and parse_schedule(" , \n") == []


def test_single_traits_stand_beside_an_expression_or_alone() -> None:
    both, alone = parse_schedule("2 happy 0.5 Gaze_X -0.3 brows, 4 gaze_y 0.2")
    assert (both.name, both.strength, both.traits) == ("happy", 0.5, (("gaze_x", -0.3), ("brows", 1.0)))
    assert (alone.name, alone.strength, alone.traits) == ("neutral", 0.0, (("gaze_y", 0.2),))
    (turned,) = parse_schedule("yaw 0.5 smile 0.2")
    assert (turned.seconds, turned.traits) == (0.0, (("yaw", 0.5), ("smile", 0.2)))


@pytest.mark.parametrize("text", ["0 neutral", "3.5 happy 0.8", "1 smile -0.25", "2 sad 1 gaze_x 0.4 eyes -1"])
def test_a_key_is_written_as_it_is_read(text: str) -> None:
    (key,) = parse_schedule(text)
    assert format_key(key) == text and parse_schedule(format_key(key)) == [key]


WRONG = ["3.5", "3.5 joyful", "x happy", "1 happy 9", "-1 sad", "1 sad 0.5 0.5", "nan sad", "1 happy sad", "1 smile 2"]
WRONG += ["1 gaze_x nan", "1 gaze_x 0.1 gaze_x 0.2", "0.5 0.5 happy"]


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(MCDMError, match="expression schedule") as caught:
        parse_schedule(f"0 neutral, {text}")
    assert text in str(caught.value) and "surprised" in str(caught.value)


def test_an_expression_holds_from_its_time_until_the_next() -> None:
    weights = schedule_weights(parse_schedule("2 happy, 4 sad"), 200, 25.0)
    assert weights[:50].sum() == 0
    assert torch.allclose(weights[math.ceil((2 + FADE) * 25) : 100, 0], torch.ones(()))
    assert torch.allclose(weights[math.ceil((4 + FADE) * 25) :], torch.tensor([0.0, 1.0]))
    assert weights.sum(1).max() <= 1 + 1e-6 and (weights.diff(dim=0).abs() < 0.2).all(), "no jump"


def test_the_motion_goes_to_the_expression_and_keeps_part_of_its_own_changes() -> None:
    motion = calm()
    changed = schedule_expressions(motion, Bank(), parse_schedule("4 happy 0.8"))
    own, now = motion.tokens.expression, changed.tokens.expression
    assert torch.allclose(now[:100], own[:100], atol=1e-5), "before its time nothing changes"
    late = now[120:]
    mean = own.mean(0)
    wanted = mean + 0.8 * (EXPRESSIONS.index("happy") - mean)
    assert torch.allclose(late.mean(0), wanted + 0.6 * (own[120:].mean(0) - mean), atol=1e-4)
    assert 0.55 < (late.std(0) / own[120:].std(0)).mean() < 0.65
    assert torch.equal(changed.tokens.lip, motion.tokens.lip) and changed.landmarks is None


def test_neutral_alone_changes_nothing() -> None:
    motion = calm()
    assert schedule_expressions(motion, Bank(), parse_schedule("0 neutral, 3 neutral")) is motion


def test_traits_come_and_go_with_their_key() -> None:
    torch.manual_seed(0)
    codec = MotionCodec(CONFIG).requires_grad_(False)
    number = CONFIG.motion_codec.expression_tokens, CONFIG.motion_codec.motion_dim
    own = torch.randn(150, *number) * 0.1
    motion = Motion(MotionTokens(torch.zeros(150, 1, 4), torch.zeros(150, 3, 4), own), None, None, 25.0)
    changed = schedule_expressions(motion, codec, parse_schedule("2 gaze_x 0.5, 4 neutral")).tokens.expression - own
    wanted = TraitAxes.of(codec).shift({"gaze_x": 0.5})
    assert torch.allclose(changed[:50], torch.zeros(()), atol=1e-5)
    assert torch.allclose(changed[70:100], wanted.expand(30, -1, -1), atol=1e-4)
    assert torch.allclose(changed[115:], torch.zeros(()), atol=1e-4)
