"""The fit of the synthetic mouth to real lips: its lip track is that of the data, and known lips are found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("scipy", reason="the synthetic data need scipy")

from mcdm_core.data.real.fitted_mouth import FilmedSpeech
from mcdm_core.data.synthetic import motion
from mcdm_core.data.synthetic.people.visemes import VISEMES
from mcdm_core.data.synthetic.speech.speech import Phoneme
from mcdm_core.training.viseme_fit import VisemeMouth, fit_visemes, follows, spoken

ACTIONS = 52


class _Asset:
    """As much of a head as the lip track looks at."""

    action_names = tuple(f"action{k}" for k in range(ACTIONS))


def _matrix(seed: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).uniform(0.1, 0.6, (len(VISEMES), ACTIONS)).astype(np.float32)
    matrix[:, 8:] = 0
    matrix[VISEMES.index("sil")] = 0
    return matrix


def _speech(seed: int, frames: int = 60) -> FilmedSpeech:
    random = np.random.default_rng(seed)
    phonemes, at = [], 0.1
    while at < frames / 25:
        length = random.uniform(0.06, 0.2)
        phonemes.append(Phoneme(str(random.choice(list("pafsiuo"))), at, at + length))
        at += length
    sound = (random.normal(0, 4000, frames * 640) * np.sin(np.arange(frames * 640) / 3000) ** 2).astype(np.int16)
    return FilmedSpeech(phonemes, sound, np.zeros((frames, 4), np.float32))


def test_the_lip_track_of_the_fit_is_that_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = _matrix(0)
    monkeypatch.setattr(motion, "viseme_matrix", lambda asset: matrix)
    clip = _speech(1)
    energy = motion.loudness(clip.sound.astype(np.float32) / 32768, 481, 200)
    wanted, _ = motion._lip_track(_Asset(), clip.phonemes, energy, 481, 0.5)
    mouth = VisemeMouth(torch.from_numpy(matrix), torch.zeros(ACTIONS, 4), 0.5, motion._RISE, motion._FALL)
    with torch.no_grad():
        made = mouth.actions(spoken(clip))
    # The ends are smoothed against another border.
    np.testing.assert_allclose(made.numpy()[12:-12], wanted[12:-12], atol=2e-4)


def test_a_fit_finds_lips_it_can_make() -> None:
    torch.manual_seed(0)
    effects = torch.zeros(ACTIONS, 4)
    effects[:8] = torch.randn(8, 4)
    real = VisemeMouth(torch.from_numpy(_matrix(2)), effects, 0.8, 0.12, 0.05)
    clips = []
    for seed in range(12):
        clip = spoken(_speech(seed))
        with torch.no_grad():
            clips.append(type(clip)(clip.viseme, clip.span, clip.energy, real(clip)))
    kept = [VISEMES.index(name) for name in ("sil", "PP", "FF")]
    begin = _matrix(3)
    begin[kept] = _matrix(2)[kept]
    mouth = VisemeMouth(torch.from_numpy(begin), effects)
    before = follows(mouth, clips[9:])
    fit_visemes(mouth, clips[:9], steps=120, hold=1e-4)
    after = follows(mouth, clips[9:])
    assert after[0] > 0.9 and after[0] > before[0] + 0.1
    # Contacts and rest are not for the fit.
    torch.testing.assert_close(mouth.weights[kept].detach(), torch.from_numpy(begin)[kept])
