"""What a start imports: packages as large as torch are left alone where ``tiny`` has no use for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mcdm_core.pipeline import preset_weights

START = """
import sys
from mcdm_core.media.audio import load_audio
from mcdm_core.media.portrait import load_portrait
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.samples import default_portrait, default_voice

pipe = MCDMPipeline.from_preset("tiny")
pipe.encode_reference(load_portrait(default_portrait()))
voice = load_audio(default_voice())
pipe.embed_audio(voice.waveform[:, :8000], voice.sample_rate)
print(*sorted({name.partition(".")[0] for name in sys.modules} | {n for n in sys.modules if n == "torch._dynamo"}))
"""


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_a_start_imports_no_more_than_it_uses() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", START], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    large = {"diffusers", "librosa", "numba", "scipy", "sklearn", "sympy", "transformers", "torch._dynamo"}
    assert loaded & large == set()
