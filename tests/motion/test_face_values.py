"""Traits set by hand: what the codec reads of a face after the change."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.face.landmarks import LIP_VALUES, VALUE_NAMES
from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.motion.face_values import FULL, TRAITS, TraitAxes

from ..motion_fixtures import CONFIG, DIM

NUMBER = CONFIG.motion_codec.expression_tokens


@pytest.fixture(scope="module")
def codec() -> MotionCodec:
    torch.manual_seed(0)
    made = MotionCodec(CONFIG).requires_grad_(False)
    made.token_mean.normal_()
    made.token_std.uniform_(0.5, 2)
    return made


def read(codec: MotionCodec, change: torch.Tensor) -> dict[str, float]:
    """By how much the facial values change with the expression tokens."""
    tokens = torch.randn(1, codec.token_mean.shape[0], DIM, generator=torch.Generator().manual_seed(1))
    moved = tokens.clone()
    moved[:, -NUMBER:] += change
    before, after = (codec.read_values(codec.denormalize(each))[0] for each in (tokens, moved))
    return dict(zip(VALUE_NAMES, (after - before).tolist(), strict=True))


@pytest.mark.parametrize("trait", TRAITS)
def test_a_trait_changes_its_own_value_and_hardly_another(codec: MotionCodec, trait: str) -> None:
    raised, lowered = TRAITS[trait]
    for amount, name, sign in ((1.0, raised, 1), (0.5, raised, 1), (-1.0, lowered, 1 if lowered != raised else -1)):
        values = read(codec, TraitAxes.of(codec).shift({trait: amount}))
        assert values.pop(name) == pytest.approx(sign * abs(amount) * FULL, abs=1e-4)
        lips = [VALUE_NAMES[index] for index in LIP_VALUES]
        assert all(abs(values.pop(lip)) < 1e-5 for lip in lips)
        del values["cheek_puff"]  # no trait's, and not held
        assert max(map(abs, values.values())) < 0.1 * FULL


def test_traits_add_up(codec: MotionCodec) -> None:
    axes = TraitAxes.of(codec)
    both = axes.shift({"gaze_x": -0.4, "brows": 0.7})
    assert torch.allclose(both, axes.shift({"gaze_x": -0.4}) + axes.shift({"brows": 0.7}), atol=1e-6)
    assert not axes.shift({}).any()
