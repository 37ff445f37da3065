"""The mouth fitted to a filmed speaker: what it is told, what it recovers, and what the command refuses."""

from __future__ import annotations

import logging
import wave
from pathlib import Path

import numpy as np
import pytest

from mcdm_core.__main__ import main
from mcdm_core.errors import MediaError

pytest.importorskip("scipy", reason="the synthetic data need scipy")

from mcdm_core.data.real import fitted_mouth
from mcdm_core.data.real.fitted_mouth import FilmedSpeech, FittedMouth
from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.data.synthetic.motion import loudness
from mcdm_core.data.synthetic.people.visemes import VISEMES, visemes_of
from mcdm_core.data.synthetic.speech.speech import Phoneme

FRAMES = 50
PHONES = ("p", "f", "\u03b8", "t", "k", "s", "t\u0283", "\u0279", "\u0251", "\u025b", "i", "o\u028a", "u", "")
KINDS = len(VISEMES)
WIDTH = 2 * KINDS + 1


def _speech(rng: np.random.Generator) -> tuple[list[Phoneme], np.ndarray]:
    """Made-up phonemes over two seconds with pauses at both ends, and noise as loud as each of them."""
    phonemes, sound, at = [], np.zeros(FRAMES * 640), 0.2
    while at < 1.7:
        length = 2 * rng.integers(2, 8) / 100
        phonemes.append(Phoneme(str(rng.choice(PHONES)), at, at + length))
        part = slice(int(at * 16000), int((at + length) * 16000))
        sound[part] = rng.normal(0, rng.uniform(500, 5000), len(sound[part]))
        at += length
    return phonemes, sound.clip(-32768, 32767).astype(np.int16)


def _linear_mouth(seed: int = 0) -> FittedMouth:
    rng = np.random.default_rng(seed)
    return FittedMouth(rng.normal(0, 0.02, (33 * WIDTH, 4)), np.array([3.0, 0.9, 0.0, 0.3]))


def _filmed(mouth: FittedMouth, count: int, seed: int, noise: float = 0.0) -> list[FilmedSpeech]:
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        phonemes, sound = _speech(rng)
        lips = mouth.values(phonemes, sound, FRAMES)
        clips.append(FilmedSpeech(phonemes, sound, lips + rng.normal(0, noise, lips.shape).astype(np.float32)))
    return clips


def test_features_tell_what_is_said_around_each_frame() -> None:
    phonemes, sound = _speech(np.random.default_rng(1))
    found = FittedMouth.features(phonemes, sound, FRAMES)
    assert found.shape == (FRAMES, 33 * WIDTH) and found.dtype == np.float32
    level = loudness(sound.astype(np.float32) / 32768, FRAMES * 4 + 1, 100)
    for frame in (0, 13, 30, FRAMES - 1):
        for number, seconds in enumerate(np.linspace(-0.32, 0.32, 33)):
            step = int(np.clip(round(((frame + 0.5) / 25 + seconds) * 100), 0, FRAMES * 4))
            said = "sil"
            for phoneme in phonemes:
                names = visemes_of(phoneme.symbol)
                share = (step + 0.5 - phoneme.start * 100) / ((phoneme.end - phoneme.start) * 100)
                if 0 < share < 1:
                    said = names[int(share * len(names))]
            group = found[frame, number * WIDTH : (number + 1) * WIDTH]
            assert group[:KINDS].sum() == 1 and group[VISEMES.index(said)] == 1
            assert np.isclose(group[KINDS], level[step], atol=1e-5) and 0 <= group[KINDS] <= 1.3
            assert np.allclose(group[KINDS + 1 :], group[:KINDS] * group[KINDS])


def test_silence_is_a_viseme_and_a_diphthong_is_two() -> None:
    quiet = np.zeros(FRAMES * 640, np.int16)
    still = FittedMouth.features([], quiet, FRAMES).reshape(FRAMES, 33, WIDTH)
    assert (still[..., 0] == 1).all() and (still[..., 1:KINDS] == 0).all()
    spoken = FittedMouth.features([Phoneme("o\u028a", 0.4, 0.8), Phoneme("p", -0.1, 0.1)], quiet, FRAMES)
    now = spoken.reshape(FRAMES, 33, WIDTH)[:, 16, :KINDS].argmax(axis=1)
    assert [VISEMES[k] for k in now[[0, 4, 11, 16, 21]]] == ["PP", "sil", "O", "U", "sil"]


def test_a_linear_mouth_is_recovered() -> None:
    true = _linear_mouth()
    found = FittedMouth.fit(_filmed(true, 60, seed=1), penalty=1e-4)
    for clip in _filmed(true, 3, seed=2):
        said = found.values(clip.phonemes, clip.sound, FRAMES)
        assert said.dtype == np.float32 and np.abs(said - clip.lips).max() < 0.01
    strict = FittedMouth.fit(_filmed(true, 60, seed=1), penalty=1e12)
    assert np.abs(strict.weights).max() < 1e-6  # then the mean is all that is left


def test_the_fit_is_the_ridge_regression_of_all_frames() -> None:
    clips = _filmed(_linear_mouth(), 4, seed=3, noise=0.1)
    x = np.concatenate([FittedMouth.features(c.phonemes, c.sound, FRAMES) for c in clips]).astype(np.float64)
    y = np.concatenate([c.lips for c in clips]).astype(np.float64)
    extended = np.concatenate([x, np.sqrt(7.0) * np.eye(x.shape[1])])
    targets = np.concatenate([y - y.mean(axis=0), np.zeros((x.shape[1], 4))])
    expected = np.linalg.lstsq(extended, targets, rcond=None)[0]
    found = FittedMouth.fit(clips, penalty=7.0)
    assert np.allclose(found.weights, expected, atol=1e-6) and np.allclose(found.mean, y.mean(axis=0), atol=1e-6)


def test_the_opening_is_never_negative() -> None:
    low = FittedMouth(np.zeros((33 * WIDTH, 4)), np.array([-0.2, -0.3, 0.1, 0.2]))
    phonemes, sound = _speech(np.random.default_rng(0))
    assert np.allclose(low.values(phonemes, sound, FRAMES), [0.0, -0.3, 0.1, 0.2])


def test_what_a_mouth_held_out_follows_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clips = _filmed(_linear_mouth(), 80, seed=4, noise=0.02)
    with caplog.at_level(logging.INFO, logger="mcdm_core"):
        mouth = fitted_mouth.fit_mouth(clips)
    told = caplog.messages[-1]
    assert "fitted on 72 clips follows the lips of 8 others" in told
    assert float(told.split("r = ")[1][:4]) > 0.9
    assert mouth.agreement(_filmed(_linear_mouth(), 5, seed=5)).min() > 0.9
    assert np.abs(mouth.agreement(_filmed(_linear_mouth(9), 20, seed=5))).max() < 0.7


class _Aligner:
    """Finds one phoneme a word, each a tenth of a second; refuses the text "wrong"."""

    def align(self, audio: np.ndarray, transcript: str) -> list[Phoneme]:
        if transcript == "wrong":
            raise MediaError("the sound does not fit")
        return [Phoneme("p", k / 10, k / 10 + 0.1) for k, _ in enumerate(transcript.split())]


def _shards(folder: Path, names: list[str]) -> None:
    with ShardWriter(folder / "train-00000.safetensors") as writer:
        for number, name in enumerate(names):
            tensors = {
                "frames": np.zeros((3, 8, 8, 3), np.uint8),
                "landmarks": np.zeros((3, 68, 2)),
                "pose": np.zeros((3, 6)),
                "values": np.full((3, 16), number),
                "audio": np.full(3 * 640, number),
            }
            writer.add(tensors, {**dict.fromkeys(INFO_FIELDS, ""), "sentence": name, "fps": 25})


def test_clips_and_their_transcripts_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"clip{k:02d}" for k in range(24)]
    _shards(tmp_path / "clips" / "train", names)
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in names[1:]:
        (texts / f"{name}.txt").write_text("wrong" if name == "clip05" else "two words")
    clips = fitted_mouth.read_filmed_speech(tmp_path / "clips", texts, _Aligner())
    assert [int(clip.lips[0, 0]) for clip in clips] == [k for k in range(1, 24) if k != 5]
    assert all(c.lips.shape == (3, 4) and c.sound[0] == c.lips[0, 3] and len(c.phonemes) == 2 for c in clips)
    assert any("clip05 left out: the sound does not fit" in message for message in caplog.messages)
    for name in names[20:]:
        (texts / f"{name}.txt").unlink()
    with pytest.raises(MediaError, match=r"18 of 24 .* \(19 have a transcript\); label more"):
        fitted_mouth.read_filmed_speech(tmp_path / "clips", texts, _Aligner())


def test_unusable_folders_are_refused_with_what_to_do(tmp_path: Path) -> None:
    _shards(tmp_path / "clips", ["bbaf3s"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="write what is said .* bbaf3s.txt"):
        fitted_mouth.read_filmed_speech(tmp_path / "clips", tmp_path / "empty", _Aligner())
    with pytest.raises(MediaError, match="No shards"):
        fitted_mouth.read_filmed_speech(tmp_path / "empty", tmp_path / "empty", _Aligner())
    for folders in (("clips", "none"), ("none", "empty")):
        with pytest.raises(MediaError, match="none is no folder; give"):
            fitted_mouth.read_filmed_speech(*(tmp_path / name for name in folders), _Aligner())


def test_the_command_wants_clips_and_transcripts(tmp_path: Path, capsys, monkeypatch) -> None:
    command = ["label-speech", str(tmp_path / "in"), str(tmp_path / "out")]
    for option in ("--mouth-of", "--transcripts"):
        assert main([*command, option, str(tmp_path)]) == 1
        assert "--mouth-of needs --transcripts" in capsys.readouterr().err
    (tmp_path / "in").mkdir()
    with wave.open(str(tmp_path / "in" / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    (tmp_path / "in" / "a.txt").write_text("Hello.")
    monkeypatch.setattr("mcdm_core.data.real.phone_alignment.PhoneAligner", _Aligner)
    assert main([*command, "--mouth-of", str(tmp_path / "in"), "--transcripts", str(tmp_path / "in")]) == 1
    assert "No shards" in capsys.readouterr().err


def test_recordings_are_spoken_with_the_fitted_lips_and_all_else_as_before(tmp_path: Path, monkeypatch) -> None:
    from mcdm_core.data.real import speech as real_speech

    sound = np.random.default_rng(0).normal(0, 3000, 5 * 16000).astype(np.int16)
    phonemes = [Phoneme(PHONES[k % 13], 0.6 + k / 10, 0.7 + k / 10) for k in range(38)]
    monkeypatch.setattr(real_speech, "PhoneAligner", type("Known", (), {"align": lambda *_: phonemes}))
    monkeypatch.setattr(real_speech, "RigParts", lambda asset: None)
    monkeypatch.setattr(real_speech, "_read", lambda path: sound)
    monkeypatch.setattr(
        real_speech.SpeechLabeller,
        "_values",
        lambda self, sound, phonemes, frames, rng: rng.normal(0, 1, (frames, 16)).astype(np.float32),
    )
    recording, mouth = real_speech.Recording(tmp_path / "a.wav", "", "a"), _linear_mouth()
    plain = list(real_speech.SpeechLabeller(None).clips(recording))
    fitted = list(real_speech.SpeechLabeller(None, mouth=mouth).clips(recording))
    whole, amplitudes = mouth.values(phonemes, sound, 125), []
    assert len(plain) == len(fitted) == 2
    for (_, before), (spoken, after) in zip(plain, fitted, strict=True):
        start = next(s for s in range(125) if np.array_equal(sound[s * 640 : s * 640 + len(spoken)], spoken))
        ratio = after[:, :4] / whole[start : start + len(after)]
        assert np.array_equal(before[:, 4:], after[:, 4:]) and np.ptp(ratio) < 1e-4
        amplitudes.append(ratio.mean())
    assert amplitudes[0] != amplitudes[1] and min(amplitudes) >= 0.85 and max(amplitudes) <= 1.3
