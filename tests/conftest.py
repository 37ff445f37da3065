"""Fixtures shared by the tests: a model small enough to run in milliseconds, with random weights."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Iterator

import pytest
import torch

from mcdm_core.config import TINY, MCDMConfig

# Videos are compared bit for bit, which holds for one number of threads (pipeline/run/threads.py).
os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


def small_config() -> MCDMConfig:
    """``tiny`` shrunk further: same structure, a fraction of the width."""
    return dataclasses.replace(
        TINY,
        clip_frames=4,
        archive_frames=4,
        vae=dataclasses.replace(TINY.vae, block_channels=(8, 8, 8), blocks_per_level=(1, 1, 1)),
        audio_encoder=dataclasses.replace(TINY.audio_encoder, feature_dim=32),
        image_encoder=dataclasses.replace(TINY.image_encoder, feature_dim=32, channels=(8, 8, 16, 16)),
        motion_codec=dataclasses.replace(TINY.motion_codec, width=48, num_layers=1),
        present_clip_prior=dataclasses.replace(
            TINY.present_clip_prior, width=32, num_layers=1, num_heads=2, context_frames=2
        ),
        archived_clip_prior=dataclasses.replace(TINY.archived_clip_prior, width=32, num_queries=4),
        unet=dataclasses.replace(TINY.unet, block_channels=(16, 16, 32), num_heads=2, favor_features=16),
        # The trained preset samples almost without noise; here the seed must show.
        diffusion=dataclasses.replace(TINY.diffusion, temperature=1.0),
    )


@pytest.fixture(scope="session")
def tiny_config() -> MCDMConfig:
    """Configuration of the test model."""
    return small_config()


@pytest.fixture(scope="session")
def pipe():
    """Pipeline with random weights, some of the zero-initialised ones filled so that every path has an effect."""
    from mcdm_core.pipeline import MCDMPipeline

    pipeline = MCDMPipeline.from_config(small_config(), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in pipeline.model.parameters():
        if parameter.abs().sum() == 0:
            parameter.data.normal_(0, 0.02, generator=generator)
    return MCDMPipeline(pipeline.model)


@pytest.fixture(scope="session")
def portrait() -> torch.Tensor:
    """A picture [3, 180, 160] in [0, 1] with smooth structure."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 10, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(180, 160), mode="bicubic").clamp(0, 1)[0]


@pytest.fixture(scope="session")
def reference(pipe, portrait):
    """The portrait prepared with a manual box (random weights find no face)."""
    return pipe.encode_reference(portrait, box=(40, 50, 120, 130))


@pytest.fixture(scope="session")
def voice() -> torch.Tensor:
    """Half a second and a bit of modulated noise at 16 kHz: 14 frames at 25 fps."""
    generator = torch.Generator().manual_seed(2)
    t = torch.arange(8960) / 16_000
    return torch.randn(8960, generator=generator) * 0.1 * (1 + torch.sin(2 * torch.pi * 4 * t))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """Address of a Ray that was started for the tests."""
    from tests.local_ray import local_ray as started

    with pytest.MonkeyPatch.context() as monkeypatch:
        # Before Ray is imported, which reads them.
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        pytest.importorskip("ray.data", reason="the engine needs ray[data]")
        with started() as address:
            yield address


@pytest.fixture
def ray_address(local_ray: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tests' Ray is the one that the engine connects to."""
    import ray

    monkeypatch.setenv("RAY_ADDRESS", local_ray)
    yield local_ray
    ray.shutdown()


@pytest.fixture
def any_contours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are believed whatever their contours: those of random weights and random points are like no others."""
    monkeypatch.setattr("mcdm_core.models.layers.picture_sight.TRUSTED", 1e6)
