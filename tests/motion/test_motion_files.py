"""Motions on disk: whole, or refused with a reason."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from mcdm_core.errors import MCDMError
from mcdm_core.models.motion_codec import MotionTokens
from mcdm_core.motion.motion import Motion


def example() -> Motion:
    tokens = MotionTokens(torch.rand(5, 2, 6), torch.rand(5, 1, 6), torch.rand(5, 1, 6))
    return Motion(tokens, torch.rand(5, 68, 2), torch.rand(5, 16), 25.0)


def test_a_saved_motion_comes_back_whole(tmp_path) -> None:
    motion = example()
    motion.save(tmp_path / "m.safetensors")
    back = Motion.load(tmp_path / "m.safetensors")
    assert torch.equal(back.tokens.cat(), motion.tokens.cat()) and torch.equal(back.landmarks, motion.landmarks)
    assert torch.equal(back.values, motion.values) and back.fps == 25


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"landmarks": torch.full((5, 68, 2), torch.inf)}, {}),
        ({"landmarks": torch.rand(5, 67, 2)}, {}),
        ({"landmarks": torch.rand(4, 68, 2)}, {}),
        ({"values": torch.rand(5, 16).half().long()}, {}),
        ({"tokens.lip": torch.rand(5, 6)}, {}),
        ({"tokens.lip": None}, {}),
        ({"others": torch.rand(5)}, {}),
        ({}, {"fps": 0}),
        ({}, {"fps": "25"}),
        ({}, {"fps": None}),
        ({}, {"version": 2}),
    ],
)
def test_a_damaged_motion_is_refused(tmp_path, change, about) -> None:
    path = tmp_path / "m.safetensors"
    example().save(path)
    motion = example()
    tensors = {f"tokens.{s}": getattr(motion.tokens, s) for s in ("head", "lip", "expression")}
    tensors |= {"landmarks": motion.landmarks, "values": motion.values, **change}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, str(path), {"mcdm_motion": json.dumps({"version": 1, "fps": 25.0, **about})})
    with pytest.raises(MCDMError):
        Motion.load(path)
