"""Training of the prior: sampling of stretches, augmentation of sound, auxiliary losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcdm_core.training import clip_sampler
from mcdm_core.training.audio_pretraining import AudioObjective, encode_sound, speech_clip, validate_audio
from mcdm_core.training.clip_sampler import ClipSampler, MotionClip
from mcdm_core.training.prior import PriorModules, PriorObjective
from mcdm_core.training.prior_losses import (
    augment_mels,
    auxiliary_value_loss,
    lip_readout,
    readout_loss,
    resample_clip,
    window_positions,
)

from .motion_fixtures import CONFIG, DIM, TOKENS, face_landmarks


def clip(frames: int = 30, seed: int = 0) -> MotionClip:
    random = np.random.default_rng(seed)
    values = random.random((frames, 16)).astype(np.float32)
    audio = (random.normal(0, 3000, frames * 640)).astype(np.int16)
    bare = speech_clip(audio, values, CONFIG)
    generator = torch.Generator().manual_seed(seed)
    return MotionClip(
        torch.randn(frames, TOKENS, DIM, generator=generator), bare.values, bare.mels,
        torch.randint(0, 256, (2, 3, 128, 128), generator=generator, dtype=torch.uint8),
        face_landmarks(frames), {}, 25.0,
    )  # fmt: skip


def test_training_windows_are_those_of_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_sampler, "augment_mels", lambda mels, random: mels)
    one = clip()
    sampler = ClipSampler(CONFIG, [[one]])
    windows = sampler.windows(one, torch.arange(30.0), 1.0)
    seen: list[torch.Tensor] = []

    class Spy(torch.nn.Module):
        config = CONFIG.audio_encoder

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    encode_sound(Spy(), one, 30)
    assert torch.allclose(windows, seen[0], atol=1e-5)


def test_a_faster_stretch_spans_more_sound() -> None:
    slow = window_positions(torch.arange(3.0), 1.0, 20, 100, 25)
    fast = window_positions(torch.arange(3.0) * 2, 2.0, 20, 100, 25)
    assert slow[0, 10] == 2 and slow[1, 10] == 6
    assert float(fast[0, -1] - fast[0, 0]) == 2 * float(slow[0, -1] - slow[0, 0])


def test_resampling_interpolates_and_holds_the_ends() -> None:
    series = torch.tensor([[0.0], [2.0], [4.0]])
    assert resample_clip(series, torch.tensor([-3.0, 0.25, 1.5, 9.0])).flatten().tolist() == [0.0, 0.5, 3.0, 4.0]


def test_augmentation_changes_the_sound_but_not_its_shape() -> None:
    mels = clip().mels
    generator = torch.Generator().manual_seed(0)
    made = [augment_mels(mels, generator) for _ in range(4)]
    assert all(m.shape == mels.shape and torch.isfinite(m).all() for m in made)
    assert not torch.allclose(made[0], made[1])
    assert mels.equal(clip().mels)


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


def test_auxiliary_loss_counts_only_the_lips() -> None:
    values = torch.rand(7, 16)
    other = values.clone()
    other[:, 4:] += 1
    assert float(auxiliary_value_loss(other, values)) == 0
    other[:, 0] += 1
    assert float(auxiliary_value_loss(other, values)) > 0.1


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
    assert set(validate_audio(modules.audio_encoder.eval(), [clip(), clip(seed=1)])) == {"r", "width_r", "wrong_r"}
    with pytest.raises(ValueError, match="no clips"):
        ClipSampler(CONFIG, [[]])
