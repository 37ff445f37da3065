"""Refinement of the audio encoder: it goes on from a model's, and its tokens stay near what they were."""

from __future__ import annotations

import copy
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from mcdm_core.checkpoint import component_state, load_directory
from mcdm_core.cli.train import stages
from mcdm_core.config import TINY
from mcdm_core.models.audio_encoder import ContextAudioEncoder, build_audio_encoder, with_value_head
from mcdm_core.pipeline import preset_weights
from mcdm_core.training.audio import train as audio
from mcdm_core.training.clip_sampler import MotionClip


def _shipped() -> ContextAudioEncoder:
    encoder = with_value_head(build_audio_encoder(TINY))
    encoder.load_state_dict(component_state(preset_weights("tiny"), "audio_encoder"))
    return encoder


def _clips() -> list[MotionClip]:
    draw = torch.Generator().manual_seed(0)
    sound = (3000 * torch.randn(4, 48000, generator=draw)).to(torch.int16)
    return [audio.speech_clip(s, torch.rand(75, 16, generator=draw), TINY) for s in sound]


def test_tokens_that_move_away_are_a_loss() -> None:
    encoder, clips = _shipped(), _clips()
    earlier = copy.deepcopy(encoder)
    first = audio.AudioObjective(encoder, TINY, [clips], batch=4, earlier=earlier)(0)
    assert first["moved"].item() == 0.0
    with torch.no_grad():
        encoder.norm_out.weight.mul_(2.0)
    moved = audio.AudioObjective(encoder, TINY, [clips], batch=4, earlier=earlier, keeping=0.5)(0)
    free = audio.AudioObjective(encoder, TINY, [clips], batch=4)(0)
    assert "moved" not in free and moved["moved"].item() > 0.5
    assert (moved["loss"] - free["loss"]).item() == pytest.approx(0.5 * moved["moved"].item(), rel=1e-4)


def test_a_refined_encoder_begins_with_the_models_and_is_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, output = preset_weights("tiny"), tmp_path / "audio.safetensors"
    audio.pretrain_audio([_clips()], output, 0.01, {}, batch=2, refine=weights)
    known, learnt = (component_state(path, "audio_encoder") for path in (weights, output))
    apart = max(float((known[name].float() - learnt[name]).abs().max()) for name in known)
    assert 0 < apart < 0.02
    monkeypatch.setattr(stages, "_folders", lambda *_: [])
    monkeypatch.setattr(audio, "pretrain_audio", lambda groups, to, *_, **__: to.write_bytes(output.read_bytes()))
    options = Namespace(data=[], speech=[], output=tmp_path / "run", speech_clips=0, device="cpu", refine=weights)
    options.output.mkdir()
    stages._audio(options, 1.0)
    found = load_directory(options.output).states
    assert list(found) == ["audio_encoder"]
    torch.testing.assert_close(found["audio_encoder"], learnt)
