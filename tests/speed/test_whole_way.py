"""Where the host waits, from portrait and voice to finished frames; PyTorch's ``meta`` device stands for a GPU.

Values are asked back of it where a person is read, once a video, and where a clip's pictures are taken, once a clip.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest
import torch

from benchmarks.stages import miniature
from mcdm_core.config import BASE, MCDMConfig
from mcdm_core.pipeline import MCDMPipeline

from ..conftest import small_config
from ..device_traffic import Fetched, Traffic

TAKEN = {"_crops", "paint"}
"""Functions that take face crops and latents to the CPU."""


def narrow(preset: str) -> MCDMConfig:
    if preset == "tiny":
        return small_config()
    pytest.importorskip("transformers", reason="CLIP and Wav2Vec 2.0 of base")
    pytest.importorskip("diffusers", reason="the autoencoder of base")
    return miniature(BASE)


def way(config: MCDMConfig, portrait: torch.Tensor, steps: int, guidance: float, monkeypatch) -> list[tuple[Any, Any]]:
    """Of preparing, and of making and finishing two clips, what was asked back and what was given, by place."""
    autocast = torch.autocast

    def without_meta(kind: str, *given: Any, **named: Any) -> Any:  # PyTorch has no number format for it
        return contextlib.nullcontext() if kind == "meta" else autocast(kind, *given, **named)

    monkeypatch.setattr(torch, "autocast", without_meta)
    pipe = MCDMPipeline.from_config(config)
    pipe.model.to("meta")
    stages: list[tuple[Counter[str], Counter[str]]] = []

    @contextlib.contextmanager
    def watched():
        with torch.no_grad(), Fetched() as fetched, Traffic() as given:
            yield
        stages.append((fetched.found, given.found))

    with watched():
        reference = pipe.encode_reference(portrait, box=(40, 50, 120, 130))
        sound = pipe.embed_audio(0.1 * torch.randn(2 * config.clip_frames * 640), 16_000)
        clips = pipe.generate(reference, sound, steps=steps, motion_steps=steps, guidance=guidance)
    for _ in range(2):
        with watched():
            clip = next(clips)
        with watched():
            frames = list(pipe.finish_frames(reference, clip, in_bytes=True))
        assert len(frames) == config.clip_frames and frames[0].shape[-2:] == portrait.shape[-2:]
    return stages


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_the_host_waits_once_a_clip_however_many_steps(
    preset: str, guidance: float, portrait: torch.Tensor, monkeypatch
) -> None:
    config = narrow(preset)
    few, many = (way(config, portrait, steps, guidance, monkeypatch) for steps in (2, 5))
    (asked, given), (asked_finishing, given_finishing) = few[-2:]
    assert few[1:] == many[1:], "nothing goes to and fro at a step"
    assert {place.split(" ")[-1] for place in asked} <= TAKEN, asked
    assert sum(asked.values()) <= 2 and sum(given.values()) <= 20
    # Of a clip's frames, finished where they were painted, the encoder takes all at once.
    assert [place.split(" ")[-1] for place in asked_finishing.elements()] == ["handed_over"], asked_finishing
    assert sum(given_finishing.values()) <= 2, given_finishing
    assert sum(few[0][0].values()) <= 10, "the person is read once"


def test_what_is_asked_back_is_seen() -> None:
    held = torch.ones(2, device="meta")
    with Fetched() as fetched:
        assert isinstance(float(held.sum()), float)
        assert held.cpu().device.type == held.to("cpu").device.type == held.to(torch.ones(1)).device.type == "cpu"
        assert held.to(held).device.type == "meta"
        assert isinstance(bool(held.any()), bool)
        assert torch.linalg.inv(torch.ones(2, 2, device="meta")).device.type == "meta"
    assert sum(fetched.found.values()) == 6
    assert all("test_what_is_asked_back_is_seen" in place for place in fetched.found)
