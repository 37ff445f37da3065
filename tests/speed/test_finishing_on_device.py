"""What a GPU finishes is what OpenCV finishes on the CPU; here it is done on the CPU, as if parts stayed elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcdm_core.pipeline import MCDMPipeline, Reference
from mcdm_core.pipeline.canvas import face_parts, painting
from mcdm_core.pipeline.sampling import Clip


def decibels(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a.float() / 255 - b.float() / 255).square().mean().clamp_min(1e-12).log10())


@pytest.fixture(scope="module")
def clip(pipe: MCDMPipeline, reference: Reference, voice: Tensor) -> Clip:
    return next(iter(pipe.generate(reference, pipe.embed_audio(voice[:2560], 16_000), seed=1, steps=1, motion_steps=1)))


def finished(pipe: MCDMPipeline, reference: Reference, clip: Clip, *, paste: bool, in_bytes: bool) -> Tensor:
    return torch.cat(list(pipe.finish_frames(reference, clip, paste=paste, in_bytes=in_bytes)))


@pytest.mark.parametrize("paste", [True, False])
def test_frames_are_those_of_the_cpu(
    pipe: MCDMPipeline, reference: Reference, clip: Clip, paste: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    on_cpu = finished(pipe, reference, clip, paste=paste, in_bytes=True)
    exact = finished(pipe, reference, clip, paste=paste, in_bytes=False)
    monkeypatch.setattr(face_parts, "stays", lambda painted: True)
    monkeypatch.setattr(painting, "HANDED_OVER", 3)
    handed: list[int] = []
    taken = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda frames: handed.append(len(frames)) or taken(frames))
    there = finished(pipe, reference, clip, paste=paste, in_bytes=True)
    assert handed[-2:] == [3, 1], "frames are handed over together"
    assert there.dtype == torch.uint8 and there.shape == on_cpu.shape
    assert decibels(there, on_cpu) > 45
    assert decibels(255 * finished(pipe, reference, clip, paste=paste, in_bytes=False), 255 * exact) > 45
    still = reference.image if paste else finished(pipe, reference, clip, paste=False, in_bytes=False)[0].flip(-1)
    assert decibels(there[0], 255 * still) < 40, "something moves"


def test_crops_are_those_of_the_cpu(
    pipe: MCDMPipeline, reference: Reference, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clip.painted is not None and clip.places is not None
    monkeypatch.setattr(face_parts, "stays", lambda painted: True)
    there = face_parts._crops(reference, clip.painted, clip.places)
    assert there.dtype == torch.float32 and decibels(255 * there, 255 * clip.frames) > 45
