"""Synthetic speech: text, voices and visemes, without the head model."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mcdm_core.data.synthetic.people import visemes
from mcdm_core.data.synthetic.speech import flite, speech, text, voice_variants


def test_ten_languages_whose_splits_share_no_phrase() -> None:
    assert set(text.languages()) == {"de", "pl", "ru", "fr", "hr", "zh", "ar", "en", "th", "es"}
    for language in text.languages():
        groups = [{p for k in text.PHRASE_KINDS for p in text.phrases(language, s, k)} for s in text.SPLITS]
        assert all(len(g) >= 2 * len(text.PHRASE_KINDS) for g in groups)
        assert len(set.union(*groups)) == sum(map(len, groups))
        assert len(groups[0]) >= 40


def test_sentences_are_many_and_every_language_is_heard() -> None:
    rng = np.random.default_rng(0)
    drawn = [text.random_language(rng) for _ in range(2000)]
    assert set(drawn) == set(text.languages())
    assert 0.3 < drawn.count("en") / len(drawn) < 0.4
    for language in text.languages():
        assert len({text.random_sentence(language, "train", rng) for _ in range(200)}) > 150


def test_balanced_languages_come_once_in_ten_clips_in_any_order() -> None:
    blocks = [[text.balanced_language(3, "train", 10 * k + n) for n in range(10)] for k in range(4)]
    assert all(set(block) == set(text.languages()) for block in blocks)
    assert len(set(map(tuple, blocks))) == 4
    assert blocks[0] != [text.balanced_language(4, "train", n) for n in range(10)]


def test_commands_are_for_training_alone() -> None:
    rng = np.random.default_rng(0)
    verbs, colours = {"bin", "lay", "place", "set"}, {"blue", "green", "red", "white"}

    def commands(split: str) -> int:
        words = (text.random_sentence("en", split, rng).split() for _ in range(300))
        return sum(w[0] in verbs and w[1] in colours and len(w) == 6 for w in words)

    assert commands("train") > 50
    assert commands("val") == commands("test") == 0


def test_every_split_has_its_own_voices() -> None:
    for male in (True, False):
        groups = [set(speech.variants(split, male)) for split in text.SPLITS]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_only_training_voices_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {split: [bool(speech.random_voice(split, True, rng).recipe) for _ in range(60)] for split in text.SPLITS}
    assert 10 < sum(drawn["train"]) < 50
    assert not any(drawn["val"] + drawn["test"])


def test_drawn_variants_are_men_or_women_and_repeatable() -> None:
    def pitch(male: bool, seed: int) -> float:
        return float(voice_variants.random_variant(male, np.random.default_rng(seed)).split("pitch ")[1].split()[0])

    assert max(pitch(True, seed) for seed in range(40)) < min(pitch(False, seed) for seed in range(40))
    same = [voice_variants.random_variant(True, np.random.default_rng(3)) for _ in range(2)]
    assert same[0] == same[1] and same[0].count("\nformant ") == 9


def test_a_drawn_voice_speaks_like_no_other_and_the_same_again() -> None:
    if not speech.available():
        pytest.skip("espeak-ng is not installed")
    recipes = [voice_variants.random_variant(True, np.random.default_rng(seed)) for seed in (0, 1)]
    voices = [speech.Voice("drawn", 160, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5, recipe=recipe) for recipe in recipes]
    first, other, again = (speech.speak("Guten Abend.", "de", voice)[0] for voice in (*voices, voices[0]))
    np.testing.assert_array_equal(first, again)
    length = min(len(first), len(other))
    assert np.abs(first[:length] - other[:length]).mean() > 0.1 * np.abs(first).mean()
    _, marks = speech.speak("Guten Abend.", "de", voices[1])
    assert [p.symbol for p in marks if p.symbol]


def test_linked_data_hold_the_installed_voices_and_room_for_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_variants, "default_cache", lambda: tmp_path / "cache" / "head.npz")
    installed = tmp_path / "espeak-ng-data"
    (installed / "voices" / "!v").mkdir(parents=True)
    (installed / "voices" / "!v" / "Annie").write_text("language variant")
    (installed / "de_dict").write_text("words")
    for _ in range(2):
        root = voice_variants.linked_data(installed)
    name = voice_variants.write_variant(root, "language variant")
    data = root / "espeak-ng-data"
    assert (data / "de_dict").read_text() == "words"
    assert {p.name for p in (data / "voices" / "!v").iterdir()} == {"Annie", name}
    assert [p.name for p in (installed / "voices" / "!v").iterdir()] == ["Annie"]


def test_every_split_has_its_own_flite_voices() -> None:
    groups = [{v for male in (True, False) for v in flite.voices(split, male)} for split in text.SPLITS]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_flite_reports_the_sounds_it_speaks() -> None:
    if not flite.available():
        pytest.skip("flite is not installed")
    voice = speech.Voice("slt", 160, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5, engine="flite")
    audio, phonemes = speech.speak("Mama buys a big map.", "en-us", voice)
    assert sum(visemes.visemes_of(p.symbol) == ["PP"] for p in phonemes) >= 5
    assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(phonemes))
    assert phonemes[-1].end <= len(audio) / speech.SAMPLE_RATE + 0.05
    assert all(p.symbol == "" or visemes.visemes_of(p.symbol) != ["sil"] for p in phonemes)
    again, _ = speech.speak("Mama buys a big map.", "en-us", voice)
    np.testing.assert_array_equal(audio, again)


def test_without_flite_espeak_speaks_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flite, "available", lambda: False)
    rng = np.random.default_rng(0)
    assert {speech.random_voice("train", True, rng, "en").engine for _ in range(20)} == {"espeak-ng"}


def test_sound_keeps_its_timing_when_it_is_coloured() -> None:
    click = np.zeros(16000, np.float32)
    click[8000] = 1.0
    voice = speech.Voice("f2", 160, 50, 50, 1.0, 0.0, 0.0, 1e-4, 0.5, equalizer=(6, -6, 3, 0, -8, 4), cutoff=3500.0)
    coloured = speech.colour(click, voice, np.random.default_rng(0))
    assert abs(int(np.abs(coloured.astype(int)).argmax()) - 8000) <= 1


@pytest.mark.parametrize(
    ("phoneme", "expected"),
    [
        ("m", ["PP"]),
        ("b", ["PP"]),
        ("f", ["FF"]),
        ("t\u0283", ["DD", "CH"]),
        ("a\u026a", ["aa", "I"]),
        ("", ["sil"]),
        ("\u0254\u0303", ["O"]),
        ("\u00e7", ["CH"]),
    ],
)
def test_visemes_of_phonemes(phoneme: str, expected: list[str]) -> None:
    assert visemes.visemes_of(phoneme) == expected


def test_phonemes_follow_each_other_inside_the_sound() -> None:
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    voice = speech.Voice("f2", 160, 50, 50, 1.06, 0.0, 0.0, 0.0, 0.5)
    audio, phonemes = speech.speak("Mama buys a big map.", "en-us", voice)
    assert audio.dtype == np.float32 and 0.5 < len(audio) / speech.SAMPLE_RATE < 5
    assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(phonemes))
    assert phonemes[-1].end <= len(audio) / speech.SAMPLE_RATE + 0.01
    assert sum(visemes.visemes_of(p.symbol) == ["PP"] for p in phonemes) >= 5
    # Speech is louder inside the phonemes than in the pauses.
    coloured = speech.colour(audio, voice, np.random.default_rng(0))
    assert coloured.dtype == np.int16 and coloured.shape == audio.shape
