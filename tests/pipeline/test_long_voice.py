"""A voice of any length: the same tokens as of the whole sound, in memory that does not grow with it."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.media import stored_sound
from mcdm_core.media.stored_sound import StoredSound
from mcdm_core.pipeline import MCDMPipeline
from mcdm_core.pipeline import audio as embedding

PEAK = """
import sys
from mcdm_core.config import TINY
from mcdm_core.media.audio_reader import AudioReader
from mcdm_core.media.streamed_voice import stream_mono
from mcdm_core.pipeline import MCDMPipeline
from benchmarks.machine import begin_peak, peak_mib

pipe = MCDMPipeline.from_config(TINY)
before = []
for path in sys.argv[1:]:
    begin_peak()
    audio = pipe.audio.embed_stored(stream_mono(AudioReader(path), folder=sys.argv[1].rpartition("/")[0]))
    for first in range(0, audio.num_frames, 16):
        audio.tokens[first : first + 16]
    print(peak_mib())
"""


@pytest.mark.parametrize("in_memory", [0, 2**20])
def test_stored_sound_gives_slices_as_a_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(stored_sound, "_IN_MEMORY", in_memory)
    samples, stored = torch.randn(1000), StoredSound(tmp_path)
    for block in samples.split(300):
        stored.append(block)
        assert torch.equal(stored[-1:], block[-1:])  # reading between blocks moves nothing
    assert len(stored) == 1000
    for place in (slice(None), slice(0, 0), slice(10, 20), slice(990, 2000), slice(20, 10), slice(-5, None)):
        assert torch.equal(stored[place], samples[place])
    stored.cut(1100)
    assert torch.equal(stored[:], torch.cat([samples, torch.zeros(100)]))
    stored.cut(400)
    assert torch.equal(stored[:], samples[:400])
    assert not list(tmp_path.iterdir())  # the file has no name


def test_the_tokens_of_a_stored_voice_are_those_of_the_whole(
    pipe: MCDMPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(embedding, "AUDIO_CHUNK", 32)
    generator = torch.Generator().manual_seed(3)
    voice = torch.randn(64_123, generator=generator) * 0.1
    stored = StoredSound(tmp_path)
    stored.append(voice)
    short = pipe.audio.embed_stored(stored)
    assert isinstance(short.tokens, torch.Tensor) and torch.equal(short.tokens, pipe.embed_audio(voice, 16_000).tokens)
    monkeypatch.setattr(embedding, "BLOCK", 50)
    whole, streamed = pipe.embed_audio(voice, 16_000), pipe.audio.embed_stored(stored)
    assert not isinstance(streamed.tokens, torch.Tensor)
    assert streamed.num_frames == whole.num_frames == len(streamed.tokens) == 100
    for first in (0, 16, 32, 25, 90, 84, 0, 200):  # also out of order, and beyond the end
        assert torch.equal(streamed.tokens[first : first + 16], whole.tokens[first : first + 16])


def test_a_video_of_a_stored_voice_is_that_of_the_whole(
    pipe: MCDMPipeline, reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK", 50)
    generator = torch.Generator().manual_seed(4)
    voice, stored = torch.randn(9_000, generator=generator) * 0.1, StoredSound()
    stored.append(voice)
    made = [
        torch.cat([clip.frames for clip in pipe.generate(reference, audio, seed=1)])
        for audio in (pipe.embed_audio(voice, 16_000), pipe.audio.embed_stored(stored))
    ]
    assert len(made[0]) == 14 and torch.equal(*made)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell the peak of a part")
def test_memory_does_not_grow_with_the_voice(tmp_path: Path) -> None:
    """Half an hour takes no more than five minutes, but for the power of each column; held whole it takes 180 MB more.

    Slow: it listens to 35 minutes of sound.
    """
    noise = (np.random.default_rng(0).normal(0, 3000, 16_000 * 60)).clip(-30_000, 30_000).astype("<i2").tobytes()
    paths = []
    for minutes in (5, 30):
        paths.append(str(tmp_path / f"{minutes}.wav"))
        with wave.open(paths[-1], "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            for _ in range(minutes):
                file.writeframes(noise)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PEAK, *paths], cwd=root, capture_output=True, text=True, check=True)
    short, long = map(float, done.stdout.split())
    assert long - short < 30
