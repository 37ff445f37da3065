"""The report on a weight file: every part has its scores, and they are of that part."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.evaluation.report import part_scores
from mcdm_core.pipeline import MCDMPipeline

from ..conftest import small_config
from ..motion_fixtures import face_landmarks

FRAMES = 16


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a face whose mouth and loudness rise and fall together, on a smooth background."""
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    opening = np.abs(np.sin(np.arange(FRAMES) * 0.7)).astype(np.float32)
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        for index in range(2):
            landmarks = face_landmarks(FRAMES).numpy().astype(np.float32)
            landmarks[:, 16:20, 1] += 0.03 * opening[:, None]
            coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(index))
            picture = torch.nn.functional.interpolate(coarse, size=(192, 192), mode="bicubic").clamp(0, 1)[0]
            frames = (picture * 255).byte().permute(1, 2, 0).numpy()[None].repeat(FRAMES, 0)
            values = np.zeros((FRAMES, 16), np.float32)
            values[:, 0] = opening
            loud = random.normal(0, 3000, FRAMES * 640) * opening.repeat(640)
            info = dict.fromkeys(INFO_FIELDS, "")
            writer.add(
                {
                    "frames": frames,
                    "landmarks": landmarks,
                    "pose": np.zeros((FRAMES, 6), np.float32),
                    "values": values,
                    "audio": loud.astype(np.int16),
                },
                {**info, "source": "synthetic", "fps": 25, "seed": 0, "index": index},
            )
    return folder


@pytest.mark.slow
def test_every_part_has_its_scores_and_they_are_of_that_part(shards: Path) -> None:
    torch.manual_seed(0)
    model = MCDMPipeline.from_config(small_config(), seed=0).model
    scores = part_scores(model, shards)
    assert set(scores) == {"vae", "audio_encoder", "motion_codec", "present_clip_prior", "unet"}
    assert math.isfinite(scores["vae"]["psnr"]) and all(math.isfinite(value) for value in scores["unet"].values())
    with torch.no_grad():
        for parameter in model.unet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.5)
    torch.manual_seed(0)
    changed = part_scores(model, shards)
    assert [part for part in scores if str(scores[part]) != str(changed[part])] == ["unet"]
