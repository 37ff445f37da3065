"""The measurements: they rank what is in step, shifted or changed as they should."""

from __future__ import annotations

import math

import pytest
import torch

from mcdm_core.correlation import correlation, mean_correlation
from mcdm_core.evaluation.face_track import track_face
from mcdm_core.evaluation.identity import compare_identity, ssim_map
from mcdm_core.evaluation.lip_sync import lip_sync
from mcdm_core.media.audio import loudness


def series(count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, count + 6, generator=generator)
    return torch.nn.functional.avg_pool1d(noise, 7, 1)[0, 0]


def test_the_lag_is_found_with_its_sign() -> None:
    sound = series()
    late = lip_sync(sound.roll(3), sound, fps=25)
    early = lip_sync(sound.roll(-2), sound, fps=25)
    assert late.lag == pytest.approx(3 / 25) and early.lag == pytest.approx(-2 / 25)
    assert late.correlation == pytest.approx(1, abs=0.01) and late.correlation > late.correlation_at_zero
    assert abs(late.control) < 0.5


def test_a_constant_series_correlates_with_nothing() -> None:
    assert correlation(torch.ones(9), torch.rand(9)) == 0
    series = torch.randn(50)
    assert correlation(series, 3 * series + 1) == pytest.approx(1)
    assert correlation(series, -series) == pytest.approx(-1)
    # Pairs that say nothing do not count; the shorter length does.
    assert mean_correlation([series, torch.ones(9)], [series[:40] * 2, torch.rand(9)]) == pytest.approx(1)
    assert math.isnan(mean_correlation([torch.ones(9)], [torch.rand(9)]))


def test_loudness_belongs_to_its_frame() -> None:
    wave = torch.zeros(16_000)
    wave[16_000 // 25 * 10 : 16_000 // 25 * 11] = 0.5
    level = loudness(wave, 16_000, 25, 25)
    assert level.argmax() == 10 and level.shape == (25,)
    assert level[11] == level[9] == level.min() == pytest.approx(float(level.max()) - 5.75)


def test_ssim_of_equal_and_of_noisy_pictures() -> None:
    picture = torch.rand(1, 3, 32, 32)
    assert torch.allclose(ssim_map(picture, picture), torch.ones(1, 1, 32, 32), atol=1e-4)
    noisy = (picture + 0.3 * torch.randn_like(picture)).clamp(0, 1)
    assert ssim_map(picture, noisy).mean() < 0.8


def test_identity_drift_is_seen_and_motion_is_not(reference) -> None:
    from mcdm_core.face.reference_warp import tps_flow, warp

    generator = torch.Generator().manual_seed(0)
    still = torch.rand(68, 2, generator=generator) * 0.5 + 0.25
    still[:20] = torch.tensor([0.5, 0.7]) + torch.randn(20, 2, generator=generator) * 0.03
    moved = still + torch.tensor([0.02, -0.01])
    frames = warp(reference.crop[None], tps_flow(moved[None, :64], still[None, :64])).repeat(10, 1, 1, 1)
    same = compare_identity(reference.crop, still, frames, moved[None].repeat(10, 1, 1))
    frames[8:] += 0.2
    drifted = compare_identity(reference.crop, still, frames, moved[None].repeat(10, 1, 1))
    assert same.ssim_end > 0.9 and same.ssim_end == pytest.approx(same.ssim_start)
    assert drifted.colour_end > drifted.colour_start + 0.1


def test_every_frame_is_read_once(pipe, reference) -> None:
    frames = [reference.image] * 7
    track = track_face(pipe.model.face_network, frames, reference.transform, batch=3)
    assert track.landmarks.shape == (7, 68, 2) and track.lip_opening.shape == (7,)
    assert torch.allclose(track.landmarks[0], reference.landmarks, atol=1e-4)
