"""Training of the prior: sampling of segments, augmentation of sound, auxiliary losses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.errors import MCDMError
from mcdm_core.models.audio_encoder import build_audio_encoder
from mcdm_core.training import clip_sampler
from mcdm_core.training.audio.train import AudioObjective, encode_sound, speech_clip, validate_audio
from mcdm_core.training.clip_sampler import ClipBank, ClipSampler, MotionClip
from mcdm_core.training.prior.losses import (
    augment_mels,
    auxiliary_value_loss,
    correlation_loss,
    interpolate,
    lip_readout,
    readout_loss,
)
from mcdm_core.training.prior.train import PriorModules, PriorObjective, fit_linear_paths
from mcdm_core.training.prior.validation import after_true_past, stream_cosines

from ..motion_fixtures import CONFIG, DIM, TOKENS, face_landmarks


def clip(frames: int = 30, seed: int = 0) -> MotionClip:
    random = np.random.default_rng(seed)
    values = torch.from_numpy(random.random((frames, 16)).astype(np.float32))
    audio = torch.from_numpy(random.normal(0, 3000, frames * 640).astype(np.int16))
    bare = speech_clip(audio, values, CONFIG)
    generator = torch.Generator().manual_seed(seed)
    return MotionClip(
        torch.randn(frames, TOKENS, DIM, generator=generator),
        bare.values,
        bare.mels,
        torch.randint(0, 256, (2, 3, 128, 128), generator=generator, dtype=torch.uint8),
        face_landmarks(frames),
        {},
        25.0,
    )


def test_training_segments_are_the_windows_of_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_sampler, "augment_mels", lambda mels, random: mels)
    one, other = clip(), clip(20, seed=1)
    sampler = ClipSampler(CONFIG, [[one], [other]])
    positions = np.arange(20.0)[None].repeat(2, 0)
    made = sampler.segments(np.array([0, 1]), positions, np.ones(2)).mels
    encoder = build_audio_encoder(CONFIG).eval()
    with torch.no_grad():
        tokens = encoder.encode_segment(made, sampler.hop)
    # The shorter clip is repeated for its level, which that changes a little; its last window ends with its sound.
    assert (tokens[1] - encode_sound(encoder, other, 20))[:19].abs().mean() < 0.02
    assert torch.allclose(tokens[0], encode_sound(encoder, one, 30)[:20], atol=1e-4)


def test_a_faster_segment_spans_more_sound_and_motion() -> None:
    one = clip()
    one.mels = torch.arange(one.mels.shape[1]).float().expand(one.mels.shape).clone()
    one.values = torch.arange(30.0)[:, None].expand(-1, 16)
    batch = ClipSampler(CONFIG, [[one]], frames=6, before=2).sample(40)
    step = batch.positions[:, 1] - batch.positions[:, 0]
    assert float(step.min()) < 0.95 and float(step.max()) > 1.05
    assert torch.allclose(batch.of("values")[batch.inside][:, 0], batch.positions[batch.inside], atol=1e-4)
    assert batch.mels.shape == (40, 80, 4 * 7 + CONFIG.audio_encoder.window_frames)
    assert not batch.inside.all() and (batch.positions[:, -1] <= 29).all()


def test_a_clip_of_another_frame_rate_is_sampled_at_the_model_s() -> None:
    one = clip()
    one.fps = 50.0
    batch = ClipSampler(CONFIG, [[one]], frames=6, before=0).sample(40)
    step = batch.positions[:, 1] - batch.positions[:, 0]
    assert float(step.min()) > 1.7 and float(step.max()) < 2.4


def resampled_slowly(sequence: torch.Tensor, positions: list[float]) -> torch.Tensor:
    rows = []
    for position in positions:
        place = min(max(position, 0.0), len(sequence) - 1.0)
        low = int(place)
        high = min(low + 1, len(sequence) - 1)
        rows.append(sequence[low] * (1 - (place - low)) + sequence[high] * (place - low))
    return torch.stack(rows)


def test_a_bank_resamples_every_clip_as_if_it_were_alone() -> None:
    clips = [clip(12), clip(30, seed=1), clip(7, seed=2)]
    bank = ClipBank([clips[:1], [], clips[1:]])
    assert bank.group_first.tolist() == [0, 1] and bank.group_size.tolist() == [1, 2]
    chosen = torch.tensor([2, 0, 1, 1])
    positions = torch.rand(4, 9, generator=torch.Generator().manual_seed(0)) * 40 - 5
    for field in ("tokens", "values"):
        made = bank.resample(field, chosen, positions)
        pairs = zip(chosen.tolist(), positions.tolist(), strict=True)
        slow = [resampled_slowly(getattr(clips[c], field), p) for c, p in pairs]
        assert torch.allclose(made, torch.stack(slow), atol=1e-5)
    longest = max(c.mels.shape[1] for c in clips)
    for row, number in zip(bank.utterances(chosen, longest), chosen.tolist(), strict=True):
        mels = clips[number].mels
        assert torch.equal(row, mels.repeat(1, 5)[:, :longest])


def test_augmentation_changes_the_sound_but_not_its_shape() -> None:
    mels = clip().mels.expand(4, -1, -1)
    made = augment_mels(mels, torch.Generator().manual_seed(0))
    assert made.shape == mels.shape and torch.isfinite(made).all()
    assert not torch.allclose(made[0], made[1]) and not torch.allclose(made[2], made[3])
    assert mels[0].equal(clip().mels)


def test_augmentation_silences_a_band_of_some_voices_for_their_whole_length() -> None:
    mels = torch.randn(200, 80, 30)
    made = augment_mels(mels, torch.Generator().manual_seed(0))
    silent = (made == made.amin(dim=(1, 2), keepdim=True)).all(-1)
    bands = silent.sum(1)
    assert 0.3 < float((bands > 1).float().mean()) < 0.7
    assert int(bands.max()) <= 14
    edges = silent.int().diff(dim=1).abs().sum(1)
    assert int(edges.max()) <= 2  # one band each, not scattered bins


def test_interpolation_reads_every_sample_at_its_own_places() -> None:
    x = torch.arange(12.0).view(1, 3, 4).repeat(2, 1, 1)
    along = interpolate(x, torch.tensor([[0.5, 9.0], [-1.0, 2.0]]), -1)
    assert along[0, 0].tolist() == [0.5, 3.0] and along[1, 2].tolist() == [8.0, 10.0]
    across = interpolate(x, torch.tensor([[0.5], [2.0]]), -2)
    assert across[0, 0].tolist() == [2.0, 3.0, 4.0, 5.0] and across[1, 0].tolist() == [8.0, 9.0, 10.0, 11.0]


def test_readout_finds_a_linear_map_and_its_loss_ignores_what_does_not_show() -> None:
    tokens, hidden = torch.randn(500, 6), torch.randn(6, 2)
    hidden[4:] = 0
    readout = lip_readout(tokens, tokens @ hidden + 3)
    assert torch.allclose(readout, hidden, atol=0.05)
    clean = torch.randn(1, 5, 3, 2)
    shown = clean.clone()
    shown[:, :, 0, 0] += 1
    unseen = clean.clone()
    unseen[:, :, 2] += 1
    everything = slice(0, 3)
    assert float(readout_loss(unseen, clean, hidden, everything)) == 0
    assert float(readout_loss(shown, clean, hidden, everything)) > 0.01


def test_auxiliary_loss_counts_the_lip_opening_most() -> None:
    values = torch.rand(7, 16)
    brows, lips = values.clone(), values.clone()
    brows[:, 10] += 1
    lips[:, 0] += 1
    assert float(auxiliary_value_loss(values, values)) == 0
    assert float(auxiliary_value_loss(lips, values)) == pytest.approx(40 * float(auxiliary_value_loss(brows, values)))
    inside = torch.arange(7) < 3
    lips[:3] = values[:3]
    assert float(auxiliary_value_loss(lips, values, inside)) == 0


def test_auxiliary_loss_learns_the_mean_of_blinks_that_come_often() -> None:
    blinks = torch.zeros(10, 16)
    blinks[:4, 6:8] = 1

    def loss(guess: float) -> float:
        predicted = torch.zeros(10, 16)
        predicted[:, 6:8] = guess
        return float(auxiliary_value_loss(predicted, blinks))

    best = min((g / 20 for g in range(21)), key=loss)
    assert 0.3 <= best <= 0.45  # the mean is 0.4, the median 0


def test_correlation_loss_ignores_range_and_frames_outside() -> None:
    values = torch.rand(3, 10, 16)
    inside = torch.ones(3, 10, dtype=torch.bool)
    inside[:, 8:] = False
    following = values * 0.3 + 2
    following[:, 8:] = 100
    assert float(correlation_loss(following, values, inside)) < 0.1
    assert float(correlation_loss(-following, values, inside)) > 1.85
    assert float(correlation_loss(torch.ones(3, 10, 16), values, inside)) == pytest.approx(1)


def test_linear_paths_recover_a_linear_world() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        CONFIG, present_clip_prior=dataclasses.replace(CONFIG.present_clip_prior, persistence=True)
    )
    modules = PriorModules(config).eval()
    one = clip(60)
    # A still face: the last known frame tells all.
    one.tokens = one.tokens[:1].expand(60, -1, -1).clone()
    fit_linear_paths(modules, config, [[one]], batches=2, batch=8)
    prior = modules.present_clip_prior
    time, noise = torch.tensor([999]), torch.randn(1, 4, TOKENS, DIM)
    out = prior(noise, time, torch.zeros(1, 4, 1, 128), torch.zeros(1, 3, 128), context=one.tokens[None, :2])
    lips = slice(prior.head_tokens, prior.head_tokens + prior.lip_tokens)
    missed = (prior.denoised(out, noise, time) - one.tokens[None, :4]).abs()
    assert missed[:, :, : lips.start].mean() < 0.1


@pytest.mark.parametrize("path", ["lip", "all"])
def test_the_sound_s_linear_path_reaches_the_tokens_it_names(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_sampler, "augment_mels", lambda mels, random: mels)
    torch.manual_seed(0)
    config = dataclasses.replace(
        CONFIG, present_clip_prior=dataclasses.replace(CONFIG.present_clip_prior, sound_path=path)
    )
    modules = PriorModules(config).eval()
    one = clip(60)
    with torch.no_grad():
        sound = encode_sound(modules.audio_encoder, one, 60)
    # Motion that is spoken: the loudest direction of the sound's features moves all tokens alike.
    features = sound.flatten(1) - sound.flatten(1).mean(0)
    spoken = features @ torch.linalg.svd(features, full_matrices=False)[2][0]
    one.tokens = (spoken / spoken.std())[:, None, None].expand(60, TOKENS, DIM).clone()
    fit_linear_paths(modules, config, [[one]], batches=4, batch=16)
    prior, noise = modules.present_clip_prior, torch.zeros(1, 60, TOKENS, DIM)
    with torch.no_grad():
        out = prior(noise, torch.tensor([999]), sound[None], torch.zeros(1, 3, 128))
        guess = prior.denoised(out, noise, torch.tensor([999]))[0].mean(-1)
    lips = slice(prior.head_tokens, prior.head_tokens + prior.lip_tokens)
    follows = [float(torch.corrcoef(torch.stack([guess[:, n], one.tokens[:, n, 0]]))[0, 1]) for n in range(TOKENS)]
    assert min(follows[lips]) > 0.5
    rest = guess[:, [n for n in range(TOKENS) if not lips.start <= n < lips.stop]]
    assert (min(follows) > 0.5) if path == "all" else not rest.any()


def test_objectives_give_finite_losses_and_gradients_everywhere() -> None:
    torch.manual_seed(0)
    modules = PriorModules(CONFIG)
    groups = [[clip()], [], [clip(seed=1)]]
    losses = PriorObjective(modules, CONFIG, groups, batch=3, audio_batch=2)(0)
    losses["loss"].backward()
    assert all(torch.isfinite(v) for v in losses.values())
    assert modules.audio_encoder.conv1.weight.grad.any()
    assert modules.present_clip_prior.output["weight"].grad.any()
    objective = AudioObjective(modules.audio_encoder, CONFIG, groups, batch=2)
    assert float(objective(0)["loss"].detach()) > 0
    modules.audio_encoder.requires_grad_(False)
    modules.zero_grad()
    losses = PriorObjective(modules, CONFIG, groups, batch=3, audio_batch=0)(0)
    losses["loss"].backward()
    assert modules.audio_encoder.conv1.weight.grad is None
    assert modules.present_clip_prior.output["weight"].grad.any()
    numbers = validate_audio(modules.audio_encoder.eval(), [clip(), clip(seed=1)])
    assert set(numbers) == {"r", "width_r", "wrong_r", "range", "blink_r"}
    with pytest.raises(MCDMError, match="no clips"):
        ClipSampler(CONFIG, [[]])


def test_the_whole_landmark_clip_is_dropped_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's head tokens are there for a whole clip or not at all (section 3.3)."""
    from mcdm_core.training.prior import train as module

    seen = []
    original = module.diffusion_loss

    def note(prior, clean, given, *rest, **conditions):
        seen.append(given.clone())
        return original(prior, clean, given, *rest, **conditions)

    monkeypatch.setattr(module, "diffusion_loss", note)
    torch.manual_seed(0)
    objective = PriorObjective(PriorModules(CONFIG), CONFIG, [[clip()]], batch=20, audio_batch=0)
    for step in range(4):
        objective(step)
    given = torch.cat(seen)
    assert given.shape == (80,) and 0.1 < float(given.float().mean()) < 0.6


def test_clips_after_their_true_past_begin_where_the_truth_is():
    """A prior that repeats the last known frame has an error of one clip's movement only, whatever came before."""

    class Repeats:
        config = TINY

        def predict(self, audio, image, context, context_audio=None, **_):
            assert context_audio is None or context_audio.shape[1] == context.shape[1]
            return context[:, -1:].expand(-1, audio.shape[1], -1, -1)

    truth = torch.arange(40.0)[None, :, None, None].expand(1, 40, 6, 32)
    found = after_true_past(Repeats(), torch.zeros(1, 40, 1, 8), torch.zeros(1, 1, 8), truth)
    assert found[0, :, 0, 0].tolist() == [0.0] * 16 + [15.0] * 16 + [31.0] * 8


def test_cosines_by_stream():
    truth = torch.randn(2, 5, 6, 32)
    tokens = truth.clone()
    tokens[:, :, 2:4] *= -1
    found = stream_cosines(tokens, truth, TINY)
    assert found == pytest.approx({"all": 1 / 3, "head": 1.0, "lip": -1.0, "expression": 1.0}, abs=1e-5)
