"""Blinks: how often and how long, whatever the model does with its lids, and that resuming does not change them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from mcdm_core.face.landmarks import lid_opening
from mcdm_core.media.portrait import load_portrait
from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.motion.blinks import LidAxis, blink_curve, blink_starts, keep_blinks
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import FOLDER

from ..motion_fixtures import CONFIG, DIM

FPS = 25.0
NUMBER = CONFIG.motion_codec.expression_tokens


@pytest.fixture(scope="module")
def axis() -> LidAxis:
    torch.manual_seed(0)
    return LidAxis.of(MotionCodec(CONFIG).requires_grad_(False), torch.randn(NUMBER, DIM))


def face(axis: LidAxis, closed: Tensor) -> tuple[Tensor, Tensor]:
    """Expression tokens ``[f, ne, dm]`` whose lids are closed by ``closed [f]``, and the portrait's, open."""
    still = torch.randn(NUMBER, DIM, generator=torch.Generator().manual_seed(1))
    still = axis.move(still[None], -axis.read(still)[None])[0]
    return axis.move(still.expand(len(closed), -1, -1), closed), still


def closings(axis: LidAxis, expression: Tensor) -> tuple[int, list[int]]:
    """How often the lids close, and for how many frames each."""
    shut = (axis.read(expression) > 0.5).tolist()
    lengths, run = [], 0
    for state in [*shut, False]:
        if not state and run:
            lengths.append(run)
        run = run + 1 if state else 0
    return len(lengths), lengths


@pytest.mark.parametrize("every", [0, 16, 40, 200])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_minute_has_12_to_25_short_blinks_however_often_the_model(axis: LidAxis, every: int, seed: int) -> None:
    closed = torch.zeros(1500)
    if every:
        for start in range(5, 1490, every):
            closed[start : start + 5] = 1.0
    expression, still = face(axis, closed)
    number, lengths = closings(axis, keep_blinks(expression, axis, still, 1.0, seed, 0, FPS))
    assert 12 <= number <= 25
    assert max(lengths) <= 12 and min(lengths) >= 2


def test_lids_that_hang_are_lifted_and_narrow_eyes_are_left_alone(axis: LidAxis) -> None:
    expression, still = face(axis, torch.full((1500,), 0.9))
    assert closings(axis, keep_blinks(expression, axis, still, 1.0, 3, 0, FPS))[0] <= 25
    narrow, still = face(axis, torch.full((1500,), 0.15))
    kept = keep_blinks(narrow, axis, still, 1.0, 3, 0, FPS)
    away = torch.ones(1500, dtype=torch.bool)
    for start in blink_starts(3, 0, 60):
        away[max(0, int(start * 25) - 1) : int(start * 25) + 9] = False
    assert torch.equal(kept[away], narrow[away]) and not torch.equal(kept, narrow)


def test_clip_by_clip_is_the_whole(axis: LidAxis) -> None:
    closed = torch.zeros(400)
    for start in range(11, 390, 23):
        closed[start : start + 4] = 0.9
    expression, still = face(axis, closed)
    whole = axis.read(keep_blinks(expression, axis, still, 1.0, 5, 0, FPS))
    parts = [keep_blinks(part, axis, still, 1.0, 5, 16 * k, FPS) for k, part in enumerate(expression.split(16))]
    assert torch.allclose(axis.read(torch.cat(parts)), whole, atol=1e-5)


def test_a_portrait_with_closed_eyes_keeps_them(axis: LidAxis) -> None:
    expression, _ = face(axis, torch.ones(100))
    kept = keep_blinks(expression, axis, expression[0], 0.2, 0, 0, FPS)
    assert float(axis.read(kept).min()) > 0.85


def test_seeds_blink_at_other_times() -> None:
    assert blink_starts(0, 0, 60) != blink_starts(1, 0, 60)
    assert blink_starts(4, 20, 40) == [t for t in blink_starts(4, 0, 60) if 20 <= t < 40]


def test_a_blink_closes_quickly_and_opens_slowly() -> None:
    curve = blink_curve(torch.linspace(-0.1, 0.5, 601))
    assert float(curve.max()) > 0.99 and float(curve[0]) == 0 and float(curve[-1]) < 1e-6
    half = (curve > 0.5).nonzero()
    assert 0.1 < (int(half[-1]) - int(half[0])) / 1000 < 0.25


def test_the_axis_reads_as_the_codec_does_and_moves_nothing_else() -> None:
    torch.manual_seed(2)
    codec = MotionCodec(CONFIG).requires_grad_(False)
    codec.token_mean.normal_(), codec.token_std.uniform_(0.5, 2)
    tokens = torch.randn(7, codec.token_mean.shape[0], DIM)
    first = len(tokens[0]) - NUMBER
    for closing in (torch.zeros(NUMBER, DIM), torch.randn(NUMBER, DIM)):
        axis = LidAxis.of(codec, closing)
        read = codec.read_values(codec.denormalize(tokens))[:, 6:8].mean(1)
        assert torch.allclose(axis.read(tokens[:, first:]), read, atol=1e-4)
        moved = axis.move(tokens[:, first:], torch.full((7,), 0.25))
        assert torch.allclose(axis.read(moved), read + 0.25, atol=1e-4)


@pytest.mark.parametrize(("rate", "least", "most"), [(0.0, 0, 0), (6.0, 4, 8), (30.0, 27, 33)])
def test_the_rate_is_the_number_a_minute(axis: LidAxis, rate: float, least: int, most: int) -> None:
    expression, still = face(axis, torch.zeros(1500))
    assert least <= closings(axis, keep_blinks(expression, axis, still, 1.0, 2, 0, FPS, rate))[0] <= most


def test_lids_of_real_tokens_meet_at_the_reach_and_halve_before_it() -> None:
    """By the shipped codec, on a synthetic person: the same number shuts the eyes of nobody else."""
    pipe = MCDMPipeline.from_preset("tiny")
    reference = pipe.encode_reference(load_portrait(FOLDER / "portrait.png"))
    codec, still, points = pipe.model.motion_codec, reference.motion_tokens, reference.landmarks[None]
    lids = LidAxis.of(codec, pipe.model.present_clip_prior.closed_lids)
    reach = lids.reach(codec, still, points)

    def left(amount: float) -> float:
        closed = lids.move(still.expression, torch.tensor([amount]))
        faces = dataclasses.replace(still, expression=closed).map(lambda stream: stream[None])
        return float(lid_opening(codec.decode(faces, still, points).landmarks[0])) / float(lid_opening(points))

    assert left(reach) < 0.2 and 0.3 < left(reach / 2) < 0.7
