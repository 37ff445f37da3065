"""Blinks taken out of the training's tokens, heads elsewhere, other faces' rest."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.motion.blinks import LidAxis
from mcdm_core.training.clip_sampler import ClipBank, ClipSampler, MotionClip
from mcdm_core.training.prior.augmentation import OtherFaces, blink_spans, elsewhere, opened_lids
from mcdm_core.training.prior.linear_paths import fit_closed_lids
from mcdm_core.training.prior.train import PriorModules

from ..motion_fixtures import CONFIG, DIM, TOKENS, face_landmarks

FIRST = TOKENS - CONFIG.motion_codec.expression_tokens


def clip(frames: int = 40, seed: int = 0) -> MotionClip:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, TOKENS, DIM, generator=generator).repeat(frames, 1, 1)
    empty = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    mels = torch.zeros(80, 4 * frames)
    return MotionClip(tokens, torch.zeros(frames, 16), mels, empty, face_landmarks(frames), {}, 25.0)


def codec_and_axis() -> tuple[MotionCodec, LidAxis]:
    torch.manual_seed(0)
    codec = MotionCodec(CONFIG).requires_grad_(False).eval()
    return codec, LidAxis.of(codec, torch.zeros(TOKENS - FIRST, DIM))


def test_blinks_are_bridged_and_narrow_eyes_stay() -> None:
    _, axis = codec_and_axis()
    blinking, narrow = clip(), clip(seed=1)
    curve = torch.zeros(40)
    curve[10:16] = torch.tensor([0.3, 0.8, 1.0, 1.0, 0.6, 0.2])
    for one, amount in ((blinking, curve), (narrow, torch.full((40,), 0.3))):
        own = one.tokens[:, FIRST:]
        one.tokens[:, FIRST:] = axis.move(own, amount - axis.read(own))
    bank = ClipBank([[blinking], [narrow]])
    opened = opened_lids(bank, axis)
    assert float(axis.read(opened[:40, FIRST:]).max()) < 0.05
    assert torch.equal(opened[40:], narrow.tokens) and torch.equal(opened[:40, :FIRST], blinking.tokens[:, :FIRST])
    assert blink_spans(curve) == [(9, 17)]
    assert blink_spans(torch.full((5,), 0.2)) == [] and blink_spans(torch.ones(5)) == [(0, 5)]


def test_the_direction_of_closed_lids_is_the_one_that_lids_close_along() -> None:
    codec, axis = codec_and_axis()
    direction = torch.randn(TOKENS - FIRST, DIM, generator=torch.Generator().manual_seed(3))
    direction = direction / (direction * axis.reading).sum()
    clips = []
    for seed in range(3):
        one = clip(seed=seed)
        one.tokens[:, FIRST:] += torch.rand(40, 1, 1, generator=torch.Generator().manual_seed(seed)) * direction
        clips.append(one)
    prior = PriorModules(CONFIG).present_clip_prior
    fit_closed_lids(prior, codec, [one.tokens for one in clips])
    assert torch.allclose(prior.closed_lids, direction, atol=1e-3)


def test_a_head_elsewhere_moves_as_its_landmarks_do_and_nothing_else_changes() -> None:
    codec, _ = codec_and_axis()
    one = clip()
    one.landmarks = one.landmarks + 0.02 * torch.rand(40, 1, 2, generator=torch.Generator().manual_seed(0))
    moved = elsewhere(one, codec, np.random.default_rng(0))
    heads = codec.encode_head(moved.landmarks[None])[0]
    assert torch.allclose(moved.tokens[:, : heads.shape[1]], heads, atol=1e-5)
    assert torch.equal(moved.tokens[:, heads.shape[1] :], one.tokens[:, heads.shape[1] :])
    before, after = (x.landmarks.mean(1).diff(dim=0).norm(dim=-1) for x in (one, moved))
    ratio = after / before
    assert float(ratio.std()) < 1e-3 and 0.35 < float(ratio.mean()) < 1.9


def test_other_faces_are_constant_differences_between_people_and_leave_the_head() -> None:
    means = torch.stack([clip(seed=s).tokens.mean(0) for s in range(4)])
    faces = OtherFaces(means, CONFIG.motion_codec.head_tokens, CONFIG.motion_codec.lip_tokens, torch.zeros(2, DIM))
    drawn = faces.draw(200, torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 1, TOKENS, DIM) and not drawn[:, :, : CONFIG.motion_codec.head_tokens].any()
    changed = drawn.flatten(1).any(1).float().mean()
    assert 0.3 < float(changed) < 0.75


def test_a_reference_frame_is_never_later_than_the_segment_begins() -> None:
    one = clip(60)
    one.tokens = torch.arange(60.0)[:, None, None].expand(60, TOKENS, DIM).clone()
    sampler = ClipSampler(CONFIG, [[one]], frames=6, before=2)
    segments = sampler.sample(200)
    picked = sampler.earlier_tokens(segments)[:, 0, 0]
    begin = segments.of("tokens")[:, 2, 0, 0]
    assert (picked <= begin + 0.5).all() and float((begin - picked).max()) > 10


def test_training_predicts_open_lids_after_a_past_that_blinks() -> None:
    from mcdm_core.training.prior.train import PriorObjective

    config = dataclasses.replace(
        CONFIG,
        image_encoder=dataclasses.replace(CONFIG.image_encoder, kind="codec", feature_dim=DIM),
        present_clip_prior=dataclasses.replace(CONFIG.present_clip_prior, persistence=True, fitted_variance=True),
    )
    torch.manual_seed(0)
    modules = PriorModules(config)
    bank = ClipBank([[clip(seed=s) for s in range(3)]])
    objective = PriorObjective(modules, config, bank, batch=3, audio_batch=2)
    state = objective.sampler.random.bit_generator.state
    plain = float(objective(0)["mse"])
    bank.opened = bank.tokens + 100.0
    objective.sampler.random.bit_generator.state = state
    assert float(objective(0)["mse"]) > 20 * plain
