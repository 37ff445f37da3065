"""Motion: slicing, storing, joining; edits as pure functions; its plot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.errors import FrameRateError, MCDMError
from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.models.motion_tokens import MotionTokens
from mcdm_core.motion.editing import (
    decode_motion,
    hold_motion,
    resample_motion,
    scale_motion,
    set_expression,
    smooth_motion,
    swap_streams,
)
from mcdm_core.motion.motion import Motion
from mcdm_core.motion.plot import motion_curves, plot_motion

from ..motion_fixtures import face_landmarks


def motion(frames: int = 20, seed: int = 0, fps: float = 25.0) -> Motion:
    generator = torch.Generator().manual_seed(seed)
    tokens = MotionTokens(*(torch.randn(frames, 2, 32, generator=generator) for _ in range(3)))
    landmarks = face_landmarks(frames) + 0.01 * torch.randn(frames, 68, 2, generator=generator)
    return Motion(tokens, landmarks, torch.rand(frames, 16, generator=generator), fps)


def test_slices_clips_and_joins() -> None:
    whole = motion(20)
    assert len(whole) == 20 and whole.seconds == pytest.approx(0.8)
    parts = whole.clips(8)
    assert [len(p) for p in parts] == [8, 8, 4]
    again = Motion.cat(parts)
    assert torch.equal(again.tokens.lip, whole.tokens.lip) and torch.equal(again.values, whole.values)
    assert torch.equal(whole[-1].tokens.head, whole.tokens.head[-1:])
    with pytest.raises(IndexError):
        whole[20]
    with pytest.raises(FrameRateError):
        Motion.cat([whole, motion(3, fps=30.0)])
    assert Motion.cat([whole, whole.with_tokens(whole.tokens)]).values is None


def test_saved_motion_comes_back(tmp_path: Path) -> None:
    whole = motion()
    whole.save(tmp_path / "motion.safetensors")
    again = Motion.load(tmp_path / "motion.safetensors")
    assert torch.equal(again.tokens.cat(), whole.tokens.cat()) and again.fps == whole.fps
    assert torch.equal(again.landmarks, whole.landmarks)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(MCDMError, match="cannot be read"):
        Motion.load(tmp_path / "broken.safetensors")


def test_frames_must_agree() -> None:
    whole = motion()
    with pytest.raises(MCDMError, match="must agree"):
        Motion(whole.tokens, whole.landmarks[:3], None, 25)


def test_scaling_is_about_rest() -> None:
    whole = motion()
    rest = whole.tokens.map(lambda t: t[0])
    still = scale_motion(whole, rest, head=0.0)
    assert torch.equal(still.tokens.head, rest.head.expand_as(whole.tokens.head))
    assert torch.equal(still.tokens.lip, whole.tokens.lip) and still.values is None
    louder = scale_motion(whole, rest, lip=2.0)
    assert torch.allclose(louder.tokens.lip - rest.lip, 2 * (whole.tokens.lip - rest.lip), atol=1e-5)
    assert torch.equal(whole.tokens.lip, motion().tokens.lip)


def test_smoothing_keeps_the_mean_and_lowers_the_jitter() -> None:
    whole = motion(60)
    smooth = smooth_motion(whole, 0.1)
    assert smooth.tokens.head.diff(dim=0).std() < 0.3 * whole.tokens.head.diff(dim=0).std()
    assert torch.equal(smooth.tokens.lip, whole.tokens.lip)
    assert torch.equal(smooth_motion(whole, 0.0).tokens.head, whole.tokens.head)
    constant = hold_motion(whole, 3)
    assert torch.allclose(smooth_motion(constant, 0.2).tokens.head, constant.tokens.head, atol=1e-5)
    with pytest.raises(MCDMError):
        smooth_motion(whole, -1)


def test_holding_and_swapping_streams() -> None:
    whole, other = motion(20), motion(5, seed=1)
    held = hold_motion(whole, -1, ("head", "expression"))
    assert torch.equal(held.tokens.head[0], whole.tokens.head[-1])
    assert torch.equal(held.tokens.lip, whole.tokens.lip)
    swapped = swap_streams(whole, other, ("head",))
    assert torch.equal(swapped.tokens.head[:9], other.tokens.head[[0, 1, 2, 3, 4, 3, 2, 1, 0]])
    assert torch.equal(swapped.tokens.expression, whole.tokens.expression)
    with pytest.raises(FrameRateError):
        swap_streams(whole, motion(5, fps=30.0), ("head",))
    with pytest.raises(MCDMError, match="unknown motion stream"):
        swap_streams(whole, other, ("nose",))


def test_resampling_keeps_the_duration() -> None:
    whole = motion(20)
    dense = resample_motion(whole, 50.0)
    assert len(dense) == 40 and dense.seconds == pytest.approx(whole.seconds)
    middle = 0.75 * whole.tokens.lip[1] + 0.25 * whole.tokens.lip[2]
    assert torch.allclose(dense.tokens.lip[3], middle, atol=1e-5)


def test_named_expression_moves_the_mean_only_as_far_as_its_strength() -> None:
    codec = MotionCodec(TINY)
    codec.expression_bank.normal_()
    whole = motion()
    assert torch.allclose(
        set_expression(whole, codec, "happy", 0.0).tokens.expression, whole.tokens.expression, atol=1e-6
    )
    full = set_expression(whole, codec, "happy", 1.0)
    assert torch.allclose(full.tokens.expression.mean(0), codec.named_expression("happy"), atol=1e-5)
    assert torch.equal(full.tokens.lip, whole.tokens.lip)
    with pytest.raises(MCDMError, match="Expression"):
        set_expression(whole, codec, "bored")


def test_decoding_fills_landmarks_and_the_plot_shows_them() -> None:
    codec, whole = MotionCodec(TINY).eval(), motion()
    bare = whole.with_tokens(whole.tokens)
    with pytest.raises(MCDMError, match="decode"):
        motion_curves(bare)
    decoded = decode_motion(bare, codec, whole.tokens.map(lambda t: t[0]), whole.landmarks[0])
    assert decoded.landmarks.shape == (20, 68, 2) and decoded.values.shape == (20, 16)
    picture = plot_motion(decoded, torch.randn(12800), size=(320, 160), marks=[8])
    assert picture.shape == (3, 160, 320) and 0 <= float(picture.min()) <= float(picture.max()) <= 1
    assert float((plot_motion(decoded, None, size=(320, 160)) - picture).abs().sum()) > 0
