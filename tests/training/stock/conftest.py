"""A curated set and an assembled start of the narrow model."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from mcdm_core.checkpoint import save_checkpoint
from mcdm_core.models.archived_clip_prior import ArchivedClipPrior
from mcdm_core.models.motion_codec import MotionCodec
from mcdm_core.models.unet import DenoisingUNet
from mcdm_core.models.vae import build_autoencoder

from ...data.tar_set import add_clip
from .narrow import NARROW


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for split, count in (("train", 3), ("val", 1)):
        (folder / split).mkdir()
        with tarfile.open(folder / split / f"{split}-00000.tar", "w") as tar:
            for number in range(count):
                add_clip(tar, f"{split}{number}-0000", 12 + 5 * number, number)
            add_clip(tar, f"{split}9-0000", 5, 9)  # too short for a sample
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    parts = {
        "vae": build_autoencoder(NARROW),
        "unet": DenoisingUNet(NARROW),
        "motion_codec": MotionCodec(NARROW),
        "archived_clip_prior": ArchivedClipPrior(NARROW),
    }
    for module in parts.values():
        for parameter in module.parameters():
            if parameter.abs().sum() == 0:
                torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(path, {name: module.state_dict() for name, module in parts.items()}, NARROW, stage=0)
    return path
