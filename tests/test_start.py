"""What a start imports: packages as large as torch are left alone where ``tiny`` has no use for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mcdm_core.pipeline import preset_weights

START = """
import sys
import torch
from einops import rearrange

rearrange(torch.zeros(1), "a -> a")
brought = set(sys.modules)
from mcdm_core.media.audio import load_audio
from mcdm_core.media.portrait import load_portrait
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait, default_voice

pipe = MCDMPipeline.from_preset("tiny")
pipe.encode_reference(load_portrait(default_portrait()))
voice = load_audio(default_voice())
pipe.embed_audio(voice.waveform[:, :8000], voice.sample_rate)
loaded = set(sys.modules) - brought
print(*sorted({name.partition(".")[0] for name in loaded} | {n for n in loaded if n == "torch._dynamo"}))
"""
"""An einops before 0.8.2, or a torch before 2.8, brings torch._dynamo by itself: that is no import of ours."""


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_a_start_imports_no_more_than_it_uses() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", START], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mcdm_core" in loaded
    large = {"diffusers", "librosa", "numba", "scipy", "sklearn", "sympy", "transformers", "torch._dynamo"}
    assert loaded & large == set()
