"""Held-out clips, and the scores of a denoiser of the whole crop (weights of version 0.1)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.errors import MCDMError
from mcdm_core.evaluation.held_clips import draw_reference, held_clips
from mcdm_core.evaluation.whole_crop import validate_denoiser
from mcdm_core.model import MCDMModel

from ..whole_crop import WHOLE_CROP

NARROW = dataclasses.replace(
    WHOLE_CROP,
    clip_frames=4,
    part_decoder=dataclasses.replace(WHOLE_CROP.part_decoder, block_channels=()),
    vae=dataclasses.replace(WHOLE_CROP.vae, block_channels=(8, 8, 8), blocks_per_level=(1, 1, 1)),
    unet=dataclasses.replace(WHOLE_CROP.unet, block_channels=(8, 16, 16), num_heads=2, norm_groups=4),
    archived_clip_prior=dataclasses.replace(WHOLE_CROP.archived_clip_prior, width=16),
    diffusion=dataclasses.replace(WHOLE_CROP.diffusion, prior_variance_terms=()),
)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two clips of twelve frames."""
    torch.manual_seed(0)
    base = torch.rand(68, 2) * 0.5 + 0.25
    tensors = {}
    for index in range(2):
        tensors[f"{index}/frames"] = torch.randint(0, 255, (12, 128, 128, 3), dtype=torch.uint8)
        tensors[f"{index}/landmarks"] = base + 0.01 * torch.randn(12, 68, 2)
        tensors[f"{index}/values"] = torch.rand(12, 16)
    save_file(tensors, str(tmp_path / "a.safetensors"), metadata={"clips": json.dumps([{}] * 2)})
    return tmp_path


def test_held_clips_are_those_of_the_shards(shards: Path) -> None:
    clips = held_clips(shards, 8)
    assert [len(clip.landmarks) for clip in clips] == [12, 12] and len(held_clips(shards, 8, limit=1)) == 1
    stored = clips[1].stored[3].permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(clips[1].pictures([3])[0], stored)
    assert [clip.reference for clip in clips] == [clip.reference for clip in held_clips(shards, 8)]


def test_no_clips_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MCDMError, match="shards"):
        held_clips(tmp_path, 8)


def test_a_reference_has_open_eyes() -> None:
    values = torch.zeros(50, 16)
    values[:, 6:8] = 1.0
    values[::2, 6:8] = 0.0
    drawn = [draw_reference(values, np.random.default_rng(i)) % 2 for i in range(10)]
    assert sum(drawn) <= 1


def test_some_references_have_an_open_mouth() -> None:
    values = torch.zeros(50, 16)
    values[::2, 0] = 1.0
    drawn = [draw_reference(values, np.random.default_rng(i), open_mouth=True) % 2 for i in range(10)]
    assert sum(drawn) <= 1


@pytest.mark.parametrize("stage", [1, 3])
def test_a_denoiser_that_adds_nothing_scores_as_the_warp_seen_through_the_autoencoder(shards: Path, stage: int) -> None:
    torch.manual_seed(0)
    model = MCDMModel(NARROW).eval()
    clips = held_clips(shards, 8)
    found = validate_denoiser(model, clips, stage=stage, steps=(2, 1))
    kinds = ("warp", 2, 1, "finished")
    wanted = {"warp", "psnr_2", "psnr_1", "finished", *(f"{p}_{n}" for p in ("mouth", "eyes") for n in kinds)}
    assert set(found) == wanted and all(np.isfinite(value) for value in found.values())
    # Untrained, it predicts no change of the warped reference, whose detail the finished frames get back.
    assert found["finished"] == pytest.approx(found["warp"], abs=0.3)
    with torch.no_grad():
        for parameter in model.unet.conv_out.parameters():
            parameter.normal_(0, 2.0)
    changed = validate_denoiser(model, clips, stage=stage, steps=(2, 1))
    assert changed["warp"] == found["warp"] and abs(changed["psnr_1"] - found["psnr_1"]) > 0.01
