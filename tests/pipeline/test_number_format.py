"""Pictures in bfloat16: chosen where it is fast, as good as those in float32, and nothing else of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mcdm_core.pipeline import MCDMPipeline, preset_weights
from mcdm_core.pipeline.run import number_format
from mcdm_core.pipeline.run.number_format import LEAST_GAIN, fast_format, gain, picture_format
from mcdm_core.samples import default_portrait, default_voice


class Clock:
    """Tells what its calls have taken."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def call(self, *seconds: float):
        waiting = iter(seconds)

        def run() -> None:
            self.now += next(waiting)

        return run


def test_the_gain_is_that_of_most_turns() -> None:
    clock = Clock()
    # One disturbed turn of each changes nothing.
    assert gain(clock.call(3, 3, 9, 3, 3), clock.call(1, 1, 1, 7, 1), clock) == 3.0


@pytest.mark.parametrize(("gained", "chosen"), [(LEAST_GAIN + 0.1, torch.bfloat16), (LEAST_GAIN - 0.1, torch.float32)])
def test_bfloat16_is_chosen_where_it_is_measured_to_pay(monkeypatch, gained: float, chosen: torch.dtype) -> None:
    monkeypatch.setattr(number_format, "gain", lambda slow, fast: gained)
    fast_format.cache_clear()
    try:
        usable = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert picture_format("auto", "cpu") == (chosen if usable else torch.float32)
        assert picture_format("auto", "cuda") == picture_format("float32", "cpu") == torch.float32
        assert picture_format("bfloat16", "cpu") == torch.bfloat16
    finally:
        fast_format.cache_clear()


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="the tiny weights are not installed")
def test_pictures_of_both_formats_are_equal_to_45_decibels_and_move_alike() -> None:
    from mcdm_core.media.audio import load_audio
    from mcdm_core.media.portrait import load_portrait

    voice = load_audio(default_voice())
    clips = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipe = MCDMPipeline.from_preset("tiny")
        pipe.model.picture_format = dtype
        reference = pipe.encode_reference(load_portrait(default_portrait(), 384))
        sound = pipe.embed_audio(voice.waveform[:, : 2 * voice.sample_rate], voice.sample_rate)
        sound = dataclasses.replace(sound, tokens=sound.tokens[:32], num_frames=32)
        clips[dtype] = list(pipe.generate(reference, sound, seed=0))
        assert not torch.is_autocast_enabled("cpu")
    exact, fast = (torch.cat([clip.frames for clip in made]) for made in clips.values())
    assert not torch.equal(exact, fast)
    assert -10 * torch.log10((exact - fast).square().flatten(1).mean(1).amax()) > 45
    for one, other in zip(*clips.values(), strict=True):
        assert torch.equal(one.motion.landmarks, other.motion.landmarks)
        # What goes on into the next clip, and into files, is float32 in both.
        kept = zip(one.memory.tensors().items(), other.memory.tensors().items(), strict=True)
        assert all(a[0] == b[0] and a[1].dtype == b[1].dtype == torch.float32 for a, b in kept)
